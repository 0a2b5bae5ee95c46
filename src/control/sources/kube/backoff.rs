//! Owns how long a watch that fails waits before it tries again. Refuses to know why it failed.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// For what will not change by itself: a kind that the server does not have, or hides.
const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// Waits that double, with a random part, so that replicas do not come back at one moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Forgets the failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure; `random` is from 0 to 1.
    fn next(&mut self, most: Duration, random: f64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Waits after one more failure.
    pub(super) async fn wait(&mut self) {
        let time = self.next(LONGEST, rand::random());
        tokio::time::sleep(time).await;
    }

    /// Waits after one more refusal.
    pub(super) async fn wait_refused(&mut self) {
        let time = self.next(LONGEST_REFUSED, rand::random());
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(LONGEST, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.next(LONGEST_REFUSED, 1.0), Duration::from_millis(51_200));
        backoff.reset();
        assert_eq!(backoff.next(LONGEST, 0.0), Duration::from_millis(100));
    }
}
