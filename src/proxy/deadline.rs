//! Owns the moment by which an upstream must have sent something: one deadline for the first byte, the gap between two
//! chunks and the whole exchange.
//!
//! Moving it is one atomic store; only a timer that fires checks whether it was moved. Knows no policy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NEVER: u64 = u64::MAX;

/// A moment that moves while it is waited for.
#[derive(Debug)]
pub(super) struct Deadline {
    start: Instant,
    /// Microseconds after `start`; [`NEVER`] while nothing is awaited.
    due_us: AtomicU64,
    /// The end of the whole exchange, the same way; no move passes it.
    total_us: AtomicU64,
}

impl Deadline {
    /// Makes a deadline that waits for nothing yet.
    pub(super) fn new(start: Instant) -> Self {
        Self { start, due_us: AtomicU64::new(NEVER), total_us: AtomicU64::new(NEVER) }
    }

    /// Sets the end of the whole exchange, counted from its start.
    pub(super) fn limit(&self, total: Duration) {
        self.total_us.store(micros(total), Ordering::Relaxed);
    }

    /// Expects the next bytes within `within` of `now`.
    pub(super) fn arm(&self, now: Instant, within: Duration) {
        let due = micros(now.saturating_duration_since(self.start)).saturating_add(micros(within));
        self.due_us.store(due.min(self.total_us.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Whether the expected bytes are overdue.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// Whether the whole exchange has used up its time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        micros(now.saturating_duration_since(self.start)) >= self.total_us.load(Ordering::Relaxed)
    }

    /// When the next bytes are due, if any are expected.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.due_us.load(Ordering::Relaxed);
        (due != NEVER).then(|| self.start + Duration::from_micros(due))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_moves_with_each_chunk_but_never_past_the_total() {
        let start = Instant::now();
        let deadline = Deadline::new(start);
        assert!(!deadline.is_past(start + Duration::from_secs(3600)), "nothing is awaited yet");
        deadline.limit(Duration::from_secs(10));
        deadline.arm(start, Duration::from_secs(3));
        assert!(!deadline.is_past(start + Duration::from_secs(2)));
        deadline.arm(start + Duration::from_secs(2), Duration::from_secs(3));
        assert!(!deadline.is_past(start + Duration::from_secs(4)));
        assert!(deadline.is_past(start + Duration::from_secs(5)));
        deadline.arm(start + Duration::from_secs(9), Duration::from_secs(3));
        assert!(deadline.is_past(start + Duration::from_secs(10)));
        assert!(deadline.is_over(start + Duration::from_secs(10)));
    }
}
