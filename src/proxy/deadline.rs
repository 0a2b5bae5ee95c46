//! Owns the moment by which an upstream must have sent something: one deadline for the first byte, the gap between two
//! chunks and the whole exchange.
//!
//! Moving it is one atomic store; only a timer that fires checks whether it was moved. It stands still while the client,
//! or a stage of the answer, keeps the upstream waiting. Knows no policy.

use super::concurrent_prefill::PrefillProgress;
use crate::balance::LeaseWatch;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const NEVER: u64 = u64::MAX;

/// How soon a request that waits for its first byte notices that its endpoint was taken out.
const LOOK: Duration = Duration::from_secs(1);

/// How soon it notices that its prompt, which another endpoint computes meanwhile, will not be there.
const PREFILL_LOOK: Duration = Duration::from_millis(20);

/// A moment that moves while it is waited for.
#[derive(Debug)]
pub(super) struct Deadline {
    start: Instant,
    /// Microseconds after `start`; [`NEVER`] while nothing is awaited.
    due_us: AtomicU64,
    /// When to look whether anything has changed, the same way; not after `due_us`.
    look_us: AtomicU64,
    /// The end of the whole exchange, the same way; no move passes it.
    total_us: AtomicU64,
    /// The end of the current attempt, the same way, its answer included; no move passes it.
    attempt_us: AtomicU64,
    /// How long the client has kept the upstream waiting.
    client_us: AtomicU64,
    watch: Mutex<FirstByteWatch>,
    /// Whether an endpoint was too slow.
    was_slow: AtomicBool,
}

/// What may end the wait for a first byte before it is late.
#[derive(Debug, Default)]
pub(super) struct FirstByteWatch {
    /// The endpoint, where the request may still go elsewhere.
    pub(super) lease: Option<LeaseWatch>,
    /// The prompt, where another endpoint computes it meanwhile.
    pub(super) prefill: Option<Arc<PrefillProgress>>,
}

/// What a look at a deadline says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeadlineState {
    /// There is time until the next look.
    Waiting(Instant),
    /// The upstream is late.
    Late,
    /// The exchange has used up its time, and would not have without the waits for its client.
    SlowClient,
    /// The endpoint was taken out, and there are others.
    TakenOut,
    /// The first byte takes long, and another endpoint is to be asked.
    Slow,
    /// The prompt is not computed, and there will be no first byte.
    PrefillFailed,
}

impl Deadline {
    /// Makes a deadline that waits for nothing yet.
    pub(super) fn new(start: Instant) -> Self {
        let never = || AtomicU64::new(NEVER);
        Self {
            start,
            due_us: never(),
            look_us: never(),
            total_us: never(),
            attempt_us: never(),
            client_us: AtomicU64::new(0),
            watch: Mutex::default(),
            was_slow: AtomicBool::new(false),
        }
    }

    /// Sets the end of the whole exchange, counted from its start.
    pub(super) fn limit(&self, total: Duration) {
        self.total_us.store(micros(total), Ordering::Relaxed);
    }

    /// Sets the end of an attempt that begins at `now`, its whole answer included; none where there is no bound.
    pub(super) fn limit_attempt(&self, now: Instant, within: Option<Duration>) {
        let end = within.map_or(NEVER, |within| self.micros_at(now).saturating_add(micros(within)));
        self.attempt_us.store(end, Ordering::Relaxed);
    }

    /// Expects the next bytes within `within` of `now`.
    pub(super) fn arm(&self, now: Instant, within: Duration) {
        self.set(self.micros_at(now).saturating_add(micros(within)));
    }

    /// Expects the first byte within `within` of `now`, unless `watch` says that it had better come from elsewhere.
    pub(super) fn await_first_byte(&self, now: Instant, within: Duration, watch: FirstByteWatch) {
        self.arm(now, within);
        self.look_us.fetch_min(self.next_watch(&watch, now), Ordering::Relaxed);
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// Whether an endpoint was left since its first byte took long.
    pub(super) fn was_slow(&self) -> bool {
        self.was_slow.load(Ordering::Relaxed)
    }

    /// Ends the watch over the endpoint: the first byte is there.
    pub(super) fn stop_watching(&self) {
        std::mem::take(&mut *self.watch.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives the upstream back the time in which it was not waited for.
    pub(super) fn postpone(&self, by: Duration) {
        let due = self.due_us.load(Ordering::Relaxed);
        if due != NEVER {
            self.set(due.saturating_add(micros(by)));
        }
    }

    /// As [`Self::postpone`], for time in which the client did not read.
    pub(super) fn postpone_for_client(&self, by: Duration) {
        self.client_us.fetch_add(micros(by), Ordering::Relaxed);
        self.postpone(by);
    }

    /// What is to be done at `now`, when the time for a look has come.
    pub(super) fn look(&self, now: Instant) -> DeadlineState {
        let now_us = self.micros_at(now);
        let (due, total) = (self.due_us.load(Ordering::Relaxed), self.total_us.load(Ordering::Relaxed));
        if due <= now_us {
            let without_client = now_us.saturating_sub(self.client_us.load(Ordering::Relaxed));
            let is_slow_client = total <= now_us && without_client < total;
            return if is_slow_client { DeadlineState::SlowClient } else { DeadlineState::Late };
        }
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let state = if watch.prefill.as_ref().is_some_and(|prefill| prefill.has_failed()) {
            DeadlineState::PrefillFailed
        } else if watch.lease.as_ref().is_some_and(|lease| lease.is_stranded(now)) {
            DeadlineState::TakenOut
        } else if watch.lease.as_ref().is_some_and(|lease| lease.is_reissued(now)) {
            self.was_slow.store(true, Ordering::Relaxed);
            DeadlineState::Slow
        } else {
            let look = self.next_watch(&watch, now).min(due);
            self.look_us.store(look, Ordering::Relaxed);
            return DeadlineState::Waiting(self.at(look));
        };
        // Each is said once: the next attempt has a watch of its own.
        *watch = FirstByteWatch::default();
        state
    }

    /// When to look at what is watched again.
    fn next_watch(&self, watch: &FirstByteWatch, now: Instant) -> u64 {
        let after = |wait| self.micros_at(now).saturating_add(micros(wait));
        let of_prefill = watch.prefill.as_ref().map(|_| after(PREFILL_LOOK));
        let of_lease = watch.lease.as_ref().map(|_| after(LOOK));
        let reissue = watch.lease.as_ref().and_then(|lease| lease.reissue.as_ref());
        let of_reissue = reissue.filter(|reissue| reissue.at > now).map(|reissue| self.micros_at(reissue.at));
        [of_prefill, of_lease, of_reissue].into_iter().flatten().min().unwrap_or(NEVER)
    }

    /// Whether the whole exchange has used up its time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.micros_at(now) >= self.total_us.load(Ordering::Relaxed)
    }

    /// Whether the current attempt has used up its time.
    pub(super) fn is_attempt_over(&self, now: Instant) -> bool {
        self.micros_at(now) >= self.attempt_us.load(Ordering::Relaxed)
    }

    /// What is left for the whole exchange.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        let total = self.total_us.load(Ordering::Relaxed);
        Duration::from_micros(total.saturating_sub(self.micros_at(now)))
    }

    /// When to look next, if any bytes are expected.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let look = self.look_us.load(Ordering::Relaxed);
        (look != NEVER).then(|| self.at(look))
    }

    fn set(&self, due_us: u64) {
        let end = self.total_us.load(Ordering::Relaxed).min(self.attempt_us.load(Ordering::Relaxed));
        let due = due_us.min(end);
        self.due_us.store(due, Ordering::Relaxed);
        self.look_us.store(due, Ordering::Relaxed);
    }

    fn micros_at(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.start))
    }

    fn at(&self, after_us: u64) -> Instant {
        self.start + Duration::from_micros(after_us)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_late(deadline: &Deadline, at: Instant) -> bool {
        deadline.look(at) == DeadlineState::Late
    }

    #[test]
    fn a_deadline_moves_with_each_chunk_but_never_past_the_total() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let deadline = Deadline::new(start);
        assert_eq!(deadline.next_look(), None, "nothing is awaited yet");
        deadline.limit(Duration::from_secs(10));
        deadline.arm(start, Duration::from_secs(3));
        assert!(!is_late(&deadline, at(2)));
        deadline.arm(at(2), Duration::from_secs(3));
        assert!(!is_late(&deadline, at(4)));
        assert!(is_late(&deadline, at(5)));
        deadline.arm(at(9), Duration::from_secs(3));
        assert!(is_late(&deadline, at(10)));
        assert!(deadline.is_over(at(10)));
        assert_eq!((deadline.rest(at(4)).as_secs(), deadline.rest(at(11)).as_secs()), (6, 0));
    }

    #[test]
    fn an_attempt_may_have_an_end_of_its_own_that_the_next_has_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let deadline = Deadline::new(start);
        deadline.limit(Duration::from_secs(60));
        deadline.limit_attempt(at(1), Some(Duration::from_secs(5)));
        deadline.arm(at(1), Duration::from_secs(3));
        assert!(!is_late(&deadline, at(3)));
        deadline.arm(at(4), Duration::from_secs(30));
        assert!(is_late(&deadline, at(6)) && deadline.is_attempt_over(at(6)) && !deadline.is_over(at(6)));
        deadline.limit_attempt(at(6), None);
        deadline.arm(at(6), Duration::from_secs(30));
        assert!(!is_late(&deadline, at(20)) && !deadline.is_attempt_over(at(20)));
    }

    #[test]
    fn the_time_that_a_client_takes_is_not_the_upstreams() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let deadline = Deadline::new(start);
        deadline.limit(Duration::from_secs(60));
        deadline.arm(start, Duration::from_secs(3));
        deadline.postpone_for_client(Duration::from_secs(20));
        assert_eq!(deadline.look(at(22)), DeadlineState::Waiting(at(23)));
        assert!(is_late(&deadline, at(23)));
        deadline.arm(at(50), Duration::from_secs(30));
        assert_eq!(
            deadline.look(at(60)),
            DeadlineState::SlowClient,
            "of sixty seconds twenty were the client's"
        );
        assert!(is_late(&deadline, at(80)), "it would be too late by now even so");
    }
}
