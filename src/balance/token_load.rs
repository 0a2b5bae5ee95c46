//! Owns how much work this process has given to one endpoint, in tokens.
//! Refuses to know what the endpoint says of itself, and what requests are.

use super::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// In what time work that was given counts half.
const HALF_LIFE: Duration = Duration::from_secs(5);

/// What one request costs its endpoint, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestWork {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Those of them that the endpoint probably has to compute, at most all.
    pub uncached: u32,
}

impl RequestWork {
    /// What a token of the prompt costs while the answer is generated, as a part of one to compute.
    pub(super) const CONTEXT: f64 = 0.1;

    /// What the request costs in all, in tokens to compute.
    fn cost(self) -> f64 {
        f64::from(self.uncached) + Self::CONTEXT * f64::from(self.prompt)
    }

    /// Tokens of the prompt that the endpoint probably has cached.
    pub fn cached(&self) -> u32 {
        self.prompt - self.uncached
    }
}

/// The tokens that one endpoint works on for this process.
#[derive(Debug, Default)]
pub(super) struct TokenLoad {
    /// To be computed before first tokens.
    prefill: AtomicU64,
    /// Prompts of all requests in flight.
    context: AtomicU64,
    recent: Mutex<RecentTokens>,
}

/// Work given lately, older counting less: what requests in flight do not show where each is over before the next.
#[derive(Debug, Default)]
struct RecentTokens {
    tokens: f64,
    at: Option<Instant>,
}

impl RecentTokens {
    fn at(&self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let halves = now.saturating_duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.tokens * (-halves).exp2()
    }
}

impl TokenLoad {
    pub(super) fn begin(&self, work: RequestWork, now: Instant) {
        self.prefill.fetch_add(work.uncached.into(), Ordering::Relaxed);
        self.context.fetch_add(work.prompt.into(), Ordering::Relaxed);
        self.add_recent(work.cost(), now);
    }

    /// The prompt's uncached tokens are computed here after all.
    pub(super) fn begin_prefill(&self, work: RequestWork, now: Instant) {
        self.prefill.fetch_add(work.uncached.into(), Ordering::Relaxed);
        self.add_recent(f64::from(work.uncached), now);
    }

    /// The prompt's uncached tokens are computed elsewhere.
    pub(super) fn take_back(&self, work: RequestWork, now: Instant) {
        self.add_recent(-f64::from(work.uncached), now);
    }

    fn add_recent(&self, tokens: f64, now: Instant) {
        let mut recent = lock(&self.recent);
        *recent = RecentTokens { tokens: (recent.at(now) + tokens).max(0.0), at: Some(now) };
    }

    /// The first token has come: the prompt is computed.
    pub(super) fn end_prefill(&self, work: RequestWork) {
        self.prefill.fetch_sub(work.uncached.into(), Ordering::Relaxed);
    }

    /// The request is over.
    pub(super) fn end(&self, work: RequestWork) {
        self.context.fetch_sub(work.prompt.into(), Ordering::Relaxed);
    }

    /// Tokens of prompts that are still to be computed.
    pub(super) fn prefill(&self) -> u64 {
        self.prefill.load(Ordering::Relaxed)
    }

    /// Tokens of the prompts of all requests in flight.
    pub(super) fn context(&self) -> u64 {
        self.context.load(Ordering::Relaxed)
    }

    /// Work that was given lately, in tokens to compute, with a half-life of five seconds.
    pub(super) fn recent(&self, now: Instant) -> f64 {
        lock(&self.recent).at(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_until_its_first_token_its_end_and_half_of_it_five_seconds_later() {
        let (load, start) = (TokenLoad::default(), Instant::now());
        let work = RequestWork { prompt: 1_000, uncached: 400 };
        load.begin(work, start);
        assert_eq!((load.prefill(), load.context()), (400, 1_000));
        load.end_prefill(work);
        assert_eq!((load.prefill(), load.context()), (0, 1_000));
        load.end(work);
        assert_eq!((load.prefill(), load.context()), (0, 0));
        load.begin_prefill(work, start);
        load.take_back(work, start);
        load.end_prefill(work);
        let after = |seconds| load.recent(start + Duration::from_secs(seconds)).round() as u64;
        assert_eq!((after(0), after(5), after(10)), (500, 250, 125));
    }
}
