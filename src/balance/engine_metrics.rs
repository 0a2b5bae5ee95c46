//! Owns what an engine said of itself at one moment: its queue, its cache, its adapters.
//! Refuses to know how that was asked for, and what a picker makes of it.

use std::time::{Duration, Instant};

/// For how long figures say something where no policy says otherwise.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(10);

/// An engine's own figures, as one scrape of its `/metrics` or one load report in an answer gave them.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineMetrics {
    /// When they were read.
    pub at: Instant,
    /// For how long they say something, by the pool's policy.
    pub max_age: Duration,
    /// Requests that wait for capacity; those deferred for another reason do not count where the engine tells them apart.
    pub waiting: Option<f32>,
    /// Requests in the running batch.
    pub running: Option<f32>,
    /// The share of the KV cache in use, 0 to 1.
    pub kv_usage: Option<f32>,
    /// The KV cache's size.
    pub kv_cache: Option<KvCacheSize>,
    /// The adapters that are loaded or waited for, where the engine tells.
    pub adapters: Option<LoadedAdapters>,
    /// The engine sleeps, and answers nothing before it is woken.
    pub is_asleep: bool,
}

/// The size of an engine's KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCacheSize {
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Blocks in all.
    pub blocks: u32,
}

impl KvCacheSize {
    /// The tokens that the cache holds.
    pub fn tokens(&self) -> u64 {
        u64::from(self.block_tokens) * u64::from(self.blocks)
    }
}

/// The `LoRA` adapters of an engine, by the newest of the series that it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedAdapters {
    /// In use by running requests.
    pub running: Vec<Box<str>>,
    /// Asked for by waiting requests.
    pub waiting: Vec<Box<str>>,
    /// How many fit at once.
    pub max: u32,
}

/// What an engine says of its load in an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadReport {
    /// Requests that wait.
    pub waiting: Option<f32>,
    /// The share of the KV cache in use, 0 to 1.
    pub kv_usage: Option<f32>,
}

impl EngineMetrics {
    /// Makes empty figures, read at `at`.
    pub fn new(at: Instant) -> Self {
        Self {
            at,
            max_age: DEFAULT_MAX_AGE,
            waiting: None,
            running: None,
            kv_usage: None,
            kv_cache: None,
            adapters: None,
            is_asleep: false,
        }
    }

    /// These figures with what an answer reported since they were read.
    ///
    /// They stay as old as they were: an engine whose metrics cannot be read any more has figures of before beside them.
    #[must_use]
    pub fn updated(&self, report: LoadReport) -> Self {
        Self {
            waiting: report.waiting.or(self.waiting),
            kv_usage: report.kv_usage.or(self.kv_usage),
            ..self.clone()
        }
    }

    /// Whether they are as new as the policy wants them at `now`.
    pub fn is_fresh(&self, now: Instant) -> bool {
        !self.is_stale(now, self.max_age)
    }

    /// Whether they are older than `bound` at `now`, and say nothing any more.
    pub fn is_stale(&self, now: Instant, bound: Duration) -> bool {
        now.saturating_duration_since(self.at) > bound
    }
}
