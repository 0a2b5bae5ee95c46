//! What computing costs: how long a model takes for a token, as measured.
//!
//! Knows nothing of queues or of what is computed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many tokens are computed together as long as it is not known how long that takes.
const TOKENS_WHILE_UNMEASURED: usize = 1024;

/// How long a model takes for a token, in picoseconds, as a moving average; 0 until it was measured.
#[derive(Default)]
pub(super) struct TokenTime(AtomicU64);

impl TokenTime {
    pub(super) fn record(&self, tokens: usize, took: Duration) {
        let now = took.as_nanos() as u64 * 1000 / (tokens as u64).max(1);
        let old = self.0.load(Ordering::Relaxed);
        let mean = if old == 0 { now } else { (old * 7 + now) / 8 };
        self.0.store(mean.max(1), Ordering::Relaxed);
    }

    /// Returns how long so many tokens take; zero until it was measured.
    pub(super) fn time_of(&self, tokens: usize) -> Duration {
        Duration::from_nanos((tokens as u64).saturating_mul(self.0.load(Ordering::Relaxed)) / 1000)
    }

    /// Returns how many tokens can be computed in a time.
    pub(super) fn tokens_in(&self, time: Duration) -> usize {
        match self.0.load(Ordering::Relaxed) {
            0 => TOKENS_WHILE_UNMEASURED,
            picos => (time.as_nanos() * 1000 / u128::from(picos)).try_into().unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_time_says_how_much_fits_into_a_deadline_once_it_was_measured() {
        let time = TokenTime::default();
        assert_eq!(time.tokens_in(Duration::from_millis(1)), TOKENS_WHILE_UNMEASURED);
        time.record(100, Duration::from_millis(1));
        assert_eq!(time.tokens_in(Duration::from_millis(5)), 500);
        time.record(100, Duration::from_millis(9));
        assert_eq!(time.tokens_in(Duration::from_millis(5)), 250);
        time.record(0, Duration::ZERO);
        assert_eq!(time.tokens_in(Duration::ZERO), 0);
    }
}
