//! Owns what pickers go by of one endpoint: what its engine said, what it was given and what it probably has cached.
//! Refuses to know how that is weighed.

use super::engine_metrics::{EngineMetrics, LoadReport};
use super::kv_account::KvAccount;
use super::latency::LatencyStats;
use super::lock;
use super::prefix_table::{MatchHints, PrefixTable, PromptBlocks};
use super::prompt_tokens::KnownTokens;
use super::token_load::TokenLoad;
use super::token_progress::TokenProgress;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What is known of one endpoint's engine.
#[derive(Debug, Default)]
pub(super) struct EngineState {
    report: Mutex<Option<EngineReport>>,
    /// Whether the engine sleeps, by its last word, so that nobody takes the lock to learn that it does not.
    said_asleep: AtomicBool,
    /// The work that this process gives it.
    pub(super) load: TokenLoad,
    /// The tokens that this process gets of it.
    pub(super) progress: TokenProgress,
    /// How long the first tokens of its streams take.
    pub(super) latency: LatencyStats,
    /// When its endpoint was made.
    made: OnceLock<Instant>,
    /// How long after that it joined, or came back, in microseconds.
    joined_us: AtomicU64,
    /// What it probably has cached, once a picker asked for that.
    prefixes: OnceLock<PrefixTable>,
    /// What it has cached by its own account, once it was listened to.
    pub(super) kv: OnceLock<KvAccount>,
    /// The turn in which it last got a prompt that no endpoint had anything of; 0 where it never did.
    pub(super) last_cold: AtomicU64,
}

/// What an engine said of itself, and what this process had in flight there at that moment.
#[derive(Clone, Debug)]
pub(super) struct EngineReport {
    pub(super) metrics: Arc<EngineMetrics>,
    pub(super) in_flight: u32,
}

impl EngineState {
    /// Keeps what the engine said of itself while this process had so many requests there.
    pub(super) fn note(&self, metrics: EngineMetrics, in_flight: u32) {
        if let (Some(size), Some(prefixes)) = (metrics.kv_cache, self.prefixes.get()) {
            prefixes.set_capacity(size.tokens());
        }
        self.said_asleep.store(metrics.is_asleep, Ordering::Release);
        *lock(&self.report) = Some(EngineReport { metrics: Arc::new(metrics), in_flight });
    }

    /// Updates what the engine said of itself with a report in an answer, as long as that is fresh at `now`.
    pub(super) fn update(&self, report: LoadReport, in_flight: u32, now: Instant) {
        let mut known = lock(&self.report);
        if let Some(known) = known.as_mut().filter(|known| known.metrics.is_fresh(now)) {
            *known = EngineReport { metrics: Arc::new(known.metrics.updated(report)), in_flight };
        }
    }

    /// Notes that the endpoint joins at `now`, or comes back.
    pub(super) fn joins(&self, now: Instant) {
        let made = *self.made.get_or_init(|| now);
        let after = now.saturating_duration_since(made).as_micros();
        self.joined_us.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether it joined less than `age` before `now`.
    pub(super) fn is_younger_than(&self, age: Duration, now: Instant) -> bool {
        let joined_us = self.joined_us.load(Ordering::Relaxed);
        let since_made = self.made.get().map(|made| now.saturating_duration_since(*made).as_micros());
        since_made.is_some_and(|since| since < u128::from(joined_us) + age.as_micros())
    }

    /// What the engine last said of itself, however long ago; `None` where it never did.
    pub(super) fn report(&self) -> Option<EngineReport> {
        lock(&self.report).clone()
    }

    /// Whether the engine sleeps, by what was heard last, however long ago: it does not wake by itself.
    pub(super) fn is_asleep(&self) -> bool {
        self.said_asleep.load(Ordering::Acquire)
    }

    /// Notes whether it sleeps; what it says next of itself counts again.
    pub(super) fn note_asleep(&self, is_asleep: bool) {
        if self.said_asleep.swap(is_asleep, Ordering::AcqRel) == is_asleep {
            return;
        }
        if let Some(report) = lock(&self.report).as_mut() {
            report.metrics = Arc::new(EngineMetrics { is_asleep, ..(*report.metrics).clone() });
        }
    }

    /// Counts the leading blocks of a prompt that it has cached: by its own account where that holds and the prompt's tokens
    /// are known, else by what was sent there.
    pub(super) fn matched(
        &self,
        prompt: PromptBlocks<'_>,
        known: Option<&KnownTokens>,
        hints: &mut MatchHints,
        now: Instant,
    ) -> usize {
        let account = self.kv.get().filter(|account| account.is_live(now));
        match (account, known) {
            (Some(account), Some(known)) => account.matched(prompt, known, now),
            _ => self.prefixes().matched(prompt, hints),
        }
    }

    /// Notes that it gets a prompt, of whose blocks it has the first `matched`.
    pub(super) fn record(&self, prompt: PromptBlocks<'_>, matched: usize, now: Instant) {
        self.prefixes().record(prompt, matched);
        if let Some(account) = self.kv.get() {
            account.send(prompt, matched, now);
        }
    }

    /// What it probably has cached.
    pub(super) fn prefixes(&self) -> &PrefixTable {
        self.prefixes.get_or_init(|| {
            let table = PrefixTable::default();
            if let Some(size) = self.report().and_then(|report| report.metrics.kv_cache) {
                table.set_capacity(size.tokens());
            }
            table
        })
    }
}
