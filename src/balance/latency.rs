//! Owns a model's recent latency, failures and requests in flight.
//! Refuses to know where a model runs, what a request is and what time it is.

use super::work_fit::{PrefillTime, WorkFit};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// An answer of this age counts as much as 1/e of one that ends now.
const FADING: Duration = Duration::from_secs(15);

/// An average is unknown again so long after its last value.
const EXPIRY: Duration = Duration::from_secs(60);

/// The measured speed of one model: averages over its last answers, shared by all requests to it.
///
/// Each average weighs an answer by `exp(-age / 15 s)`, so that ten answers a second and one in ten seconds are
/// averaged over the same time, not over the same number of answers. 60 seconds after the last answer an average is
/// unknown, as it was before the first: a model that is no longer chosen because it was slow is tried again after that.
///
/// There are no locks but for the line of the work. An observation is a few atomic operations on each average; of two at the same moment none is
/// lost, unless they are the first after an expiry. A snapshot sees each average as it was after one of them.
#[derive(Debug, Default)]
pub struct LatencyStats {
    /// The first moment; the others are counted from it.
    start: OnceLock<Instant>,
    ttft: Average,
    per_token: Average,
    failures: Average,
    prefill: WorkFit,
    in_flight: AtomicU32,
}

/// A model's latency at one moment, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LatencySnapshot {
    /// From sending a request to the first token of its answer.
    pub ttft: Option<Duration>,
    /// The same by the work before it, where replicas' work is known.
    pub prefill: Option<PrefillTime>,
    /// From one token to the next.
    pub per_token: Option<Duration>,
    /// Requests whose answers have not ended.
    pub in_flight: u32,
    /// The share of requests that failed, from 0 to 1; 0 where none are known.
    pub failures: f32,
}

impl LatencyStats {
    /// Counts a request in flight until the guard drops.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightGuard { stats: Arc::clone(self) }
    }

    /// Takes in an answer that ended well at `now`, `duration` after its request was sent.
    ///
    /// `ttft` is `None` where the answer came whole, so that its first token was not seen: such answers measure the time
    /// per token alone, with the time to the first taken off as far as it is known. `tokens` are those of the answer,
    /// 0 where the upstream did not count them.
    pub fn observe(&self, now: Instant, ttft: Option<Duration>, tokens: u64, duration: Duration) {
        let at = self.moment(now);
        let first = ttft.or_else(|| self.ttft.read(at).map(seconds));
        let (rest, further) = match first {
            Some(first) => (duration.saturating_sub(first), tokens.saturating_sub(1)),
            None => (duration, tokens),
        };
        if let Some(ttft) = ttft {
            self.ttft.add(at, ttft.as_secs_f32());
        }
        if further > 0 {
            self.per_token.add(at, rest.as_secs_f32() / further as f32);
        }
        self.failures.add(at, 0.0);
    }

    /// Takes in at `now` how long the first token of an answer took, and nothing else of it.
    pub(super) fn observe_ttft(&self, now: Instant, ttft: Duration) {
        self.ttft.add(self.moment(now), ttft.as_secs_f32());
    }

    /// The mean time to the first token at `now`; `None` where it is that of fewer answers than `least`, older ones
    /// counting less.
    pub(super) fn ttft_of_many(&self, now: Instant, least: f32) -> Option<Duration> {
        let mean = self.ttft.read(self.moment(now))?;
        (self.ttft.weight() >= least).then(|| seconds(mean))
    }

    /// Forgets how long first tokens took.
    pub(super) fn forget_ttft(&self) {
        self.ttft.state.store(0, Ordering::Relaxed);
    }

    /// Takes in that the first token of an answer came at `now` after `ttft`, behind so many tokens to compute.
    pub fn observe_work(&self, now: Instant, work: f64, ttft: Duration) {
        self.prefill.observe(now, work, ttft);
    }

    /// Takes in that the model failed a request at `now`.
    pub fn failed(&self, now: Instant) {
        self.failures.add(self.moment(now), 1.0);
    }

    /// Reads the averages at `now`.
    pub fn snapshot(&self, now: Instant) -> LatencySnapshot {
        let at = self.moment(now);
        LatencySnapshot {
            ttft: self.ttft.read(at).map(seconds),
            prefill: self.prefill.read(now),
            per_token: self.per_token.read(at).map(seconds),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            failures: self.failures.read(at).unwrap_or(0.0).clamp(0.0, 1.0),
        }
    }

    /// Nanoseconds since the first moment, from 1.
    fn moment(&self, now: Instant) -> u64 {
        let start = *self.start.get_or_init(|| now);
        let since = now.saturating_duration_since(start).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

fn seconds(value: f32) -> Duration {
    Duration::try_from_secs_f32(value).unwrap_or(Duration::MAX)
}

/// One request in flight at a model, counted from its making to its drop.
#[derive(Debug)]
pub struct InFlightGuard {
    stats: Arc<LatencyStats>,
}

impl InFlightGuard {
    /// The statistics that take in the request's outcome.
    pub fn stats(&self) -> &LatencyStats {
        &self.stats
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An average that fades with time.
#[derive(Debug, Default)]
struct Average {
    /// When the last value came, as [`LatencyStats::moment`] counts; 0 before the first.
    last: AtomicU64,
    /// The mean in the upper half and the sum of the weights in the lower, each an `f32`: together, so that no
    /// reader sees one without the other.
    state: AtomicU64,
}

impl Average {
    /// Adds a value with weight 1, after all earlier weights have faded by the time since the last one.
    ///
    /// Concurrent calls each take another part of that time, so that all of it fades once.
    fn add(&self, at: u64, value: f32) {
        let last = self.last.fetch_max(at, Ordering::Relaxed);
        let idle = if last == 0 { 0 } else { at.saturating_sub(last) };
        let kept = if is_expired(idle) { 0.0 } else { fading(idle) };
        let step = |state| {
            let (mean, weight) = unpack(state);
            let weight = weight.mul_add(kept, 1.0);
            Some(pack(mean + (value - mean) / weight, weight))
        };
        let done = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        debug_assert!(done.is_ok(), "the step always gives a state");
    }

    /// The sum of the weights, as it was when the last value came.
    fn weight(&self) -> f32 {
        unpack(self.state.load(Ordering::Relaxed)).1
    }

    fn read(&self, at: u64) -> Option<f32> {
        let (mean, weight) = unpack(self.state.load(Ordering::Relaxed));
        let last = self.last.load(Ordering::Relaxed);
        (weight > 0.0 && !is_expired(at.saturating_sub(last))).then_some(mean)
    }
}

fn is_expired(nanos: u64) -> bool {
    u128::from(nanos) >= EXPIRY.as_nanos()
}

fn fading(nanos: u64) -> f32 {
    (-(nanos as f32 / FADING.as_nanos() as f32)).exp()
}

fn pack(mean: f32, weight: f32) -> u64 {
    u64::from(mean.to_bits()) << 32 | u64::from(weight.to_bits())
}

fn unpack(state: u64) -> (f32, f32) {
    (f32::from_bits((state >> 32) as u32), f32::from_bits(state as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn is_near(read: Option<Duration>, wanted: Duration) -> bool {
        read.is_some_and(|read| read.abs_diff(wanted) <= wanted.mul_f64(0.001))
    }

    #[test]
    fn nothing_is_known_before_the_first_answer_and_a_minute_after_the_last() {
        let (stats, now) = (LatencyStats::default(), Instant::now());
        assert_eq!(stats.snapshot(now), LatencySnapshot::default());
        stats.observe(now, Some(ms(200)), 11, ms(700));
        let read = stats.snapshot(now + Duration::from_secs(59));
        assert!(is_near(read.ttft, ms(200)) && is_near(read.per_token, ms(50)), "{read:?}");
        assert_eq!(stats.snapshot(now + Duration::from_secs(60)), LatencySnapshot::default());
        stats.observe(now + Duration::from_secs(61), Some(ms(100)), 2, ms(110));
        let read = stats.snapshot(now + Duration::from_secs(61));
        assert!(is_near(read.ttft, ms(100)) && is_near(read.per_token, ms(10)), "{read:?}");
    }

    #[test]
    fn a_minute_of_another_speed_outweighs_the_hour_before() {
        let (stats, start) = (LatencyStats::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        (0..3_600).for_each(|second| stats.observe(at(second), Some(ms(100)), 0, ms(100)));
        assert!(is_near(stats.snapshot(at(3_600)).ttft, ms(100)));
        (3_600..3_660).for_each(|second| stats.observe(at(second), Some(ms(1_000)), 0, ms(1_000)));
        let read = stats.snapshot(at(3_660)).ttft.unwrap();
        // exp(-60 / 15) of the old speed is left.
        assert!((ms(980)..ms(985)).contains(&read), "{read:?}");
    }

    #[test]
    fn a_burst_counts_by_its_answers_not_by_the_time_between_them() {
        let (stats, now) = (LatencyStats::default(), Instant::now());
        (1..=9).for_each(|tenth| stats.observe(now, Some(ms(100 * tenth)), 0, Duration::ZERO));
        assert!(is_near(stats.snapshot(now).ttft, ms(500)));
    }

    #[test]
    fn a_whole_answer_tells_the_time_per_token_less_the_first_where_that_is_known() {
        let (stats, now) = (LatencyStats::default(), Instant::now());
        stats.observe(now, None, 10, ms(1_000));
        assert!(is_near(stats.snapshot(now).per_token, ms(100)));
        assert_eq!(stats.snapshot(now).ttft, None);
        let stats = LatencyStats::default();
        stats.observe(now, Some(ms(500)), 0, ms(900));
        stats.observe(now, None, 11, ms(1_000));
        assert!(is_near(stats.snapshot(now).per_token, ms(50)));
        stats.observe(now, None, 0, ms(9_000));
        stats.observe(now, None, 1, ms(9_000));
        assert!(is_near(stats.snapshot(now).per_token, ms(50)));
    }

    #[test]
    fn failures_are_a_share_and_are_forgotten_too() {
        let (stats, now) = (LatencyStats::default(), Instant::now());
        stats.failed(now);
        assert!((stats.snapshot(now).failures - 1.0).abs() < 1e-6);
        (0..3).for_each(|_| stats.observe(now, None, 0, ms(1)));
        assert!((stats.snapshot(now).failures - 0.25).abs() < 1e-6);
        assert!(stats.snapshot(now + EXPIRY).failures.abs() < 1e-6);
    }

    #[test]
    fn requests_are_in_flight_until_their_guards_drop() {
        let (stats, now) = (Arc::new(LatencyStats::default()), Instant::now());
        let (one, two) = (stats.enter(), stats.enter());
        assert_eq!(stats.snapshot(now).in_flight, 2);
        drop(one);
        assert_eq!(two.stats().snapshot(now).in_flight, 1);
        drop(two);
        assert_eq!(stats.snapshot(now).in_flight, 0);
    }

    #[test]
    fn observations_from_many_threads_are_all_counted() {
        let (stats, now) = (LatencyStats::default(), Instant::now());
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let stats = &stats;
                scope.spawn(move || {
                    (0..1_000).for_each(|_| stats.observe(now, Some(ms(100 * (thread + 1))), 0, ms(1)));
                });
            }
        });
        assert!(is_near(stats.snapshot(now).ttft, ms(250)));
        let (_, weight) = unpack(stats.ttft.state.load(Ordering::Relaxed));
        assert!((weight - 4_000.0).abs() < 0.5, "{weight}");
    }

    proptest! {
        #[test]
        fn an_average_lies_between_the_least_and_the_most_that_was_seen(
            seen in prop::collection::vec((0_u64..90_000, 0_u64..100_000), 1..60),
        ) {
            let (stats, start) = (LatencyStats::default(), Instant::now());
            let mut now = start;
            let mut since = Vec::new();
            for (wait, ttft) in seen {
                now += ms(wait);
                if ms(wait) >= EXPIRY {
                    since.clear();
                }
                since.push(ttft);
                stats.observe(now, Some(ms(ttft)), 1, ms(ttft));
                let read = stats.snapshot(now).ttft.unwrap().as_secs_f64() * 1e3;
                let (least, most) = (*since.iter().min().unwrap() as f64, *since.iter().max().unwrap() as f64);
                prop_assert!(read >= least * 0.999 - 0.1 && read <= most * 1.001 + 0.1, "{read} {least} {most}");
            }
        }

        #[test]
        fn moments_out_of_order_never_panic(
            seen in prop::collection::vec((0_u64..200_000, any::<u64>(), any::<u64>(), any::<u64>()), 1..40),
        ) {
            let (stats, start) = (LatencyStats::default(), Instant::now());
            for (at, ttft, tokens, nanos) in seen {
                stats.observe(start + ms(at), Some(Duration::from_secs(ttft)), tokens, Duration::from_nanos(nanos));
                stats.failed(start + ms(at / 2));
                let read = stats.snapshot(start + ms(at));
                prop_assert!((0.0..=1.0).contains(&read.failures));
            }
        }
    }
}
