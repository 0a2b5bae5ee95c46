//! Owns how long a pool's first bytes are waited for before a second endpoint is asked, and how often one may be.
//! Refuses to know which endpoint that is, and how it is asked.

use super::budget::RetryBudget;
use super::lock;
use crate::policy::{BasisPoints, Hedge};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The hedging of one pool, shared by its snapshots.
#[derive(Debug)]
pub struct Hedging {
    spec: Hedge,
    budget: RetryBudget,
    running: AtomicU32,
    times: Mutex<FirstByteTimes>,
    /// Whether an endpoint was met whose requests are not.
    has_unhedged: AtomicBool,
}

/// A request that is under way twice, until this drops.
#[derive(Debug)]
pub struct HedgePermit {
    hedging: Arc<Hedging>,
}

impl Hedging {
    /// Starts with nothing measured.
    pub fn new(spec: Hedge) -> Self {
        let budget = RetryBudget::new(spec.share.0, 0);
        let has_unhedged = AtomicBool::new(false);
        Self { spec, budget, running: AtomicU32::new(0), times: Mutex::default(), has_unhedged }
    }

    /// Whether this was made for the same rules, so that a reload may keep it.
    pub fn is_for(&self, spec: &Hedge) -> bool {
        self.spec == *spec
    }

    /// The longest body of a request that is sent twice.
    pub fn max_body_bytes(&self) -> usize {
        self.spec.max_body_bytes
    }

    /// Notes an endpoint whose requests are never sent twice; says whether it is the first.
    pub fn is_first_unhedged(&self) -> bool {
        !self.has_unhedged.swap(true, Ordering::Relaxed)
    }

    /// Counts a request that may be sent twice, which earns others a share.
    pub fn request(&self, now: Instant) {
        self.budget.request(now);
    }

    /// How long the first byte of a request that is sent at `now` is waited for alone; `None` where too little is known.
    pub fn delay(&self, now: Instant) -> Option<Duration> {
        let Some(share) = self.spec.percentile else { return Some(self.spec.after) };
        lock(&self.times).percentile(share, now).map(|measured| measured.max(self.spec.after))
    }

    /// Lets a request be sent twice, as long as the budget has room.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Option<HedgePermit> {
        let more = |running: u32| (running < self.spec.at_most).then_some(running + 1);
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        // From here on it is counted as one, which its drop takes back.
        let permit = HedgePermit { hedging: Arc::clone(self) };
        self.budget.withdraw(now).then_some(permit)
    }

    /// Notes how long the endpoint that was asked first took for its first byte, or was waited for at least.
    pub fn note_first_byte(&self, took: Duration, now: Instant) {
        if self.spec.percentile.is_some() {
            lock(&self.times).add(took, now);
        }
    }
}

impl Drop for HedgePermit {
    fn drop(&mut self) {
        self.hedging.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Buckets of a quarter of an octave each, from a millisecond on.
const BUCKETS: usize = 96;
const PER_OCTAVE: f32 = 4.0;

/// For how long times are gathered before the older half is forgotten.
const HALF: Duration = Duration::from_secs(60);

/// So many are needed for a share of them to say anything.
const LEAST_KNOWN: u64 = 100;

/// How long first bytes took in this minute and in the one before, in buckets.
#[derive(Debug)]
struct FirstByteTimes {
    since: Option<Instant>,
    current: [u32; BUCKETS],
    before: [u32; BUCKETS],
}

impl Default for FirstByteTimes {
    fn default() -> Self {
        Self { since: None, current: [0; BUCKETS], before: [0; BUCKETS] }
    }
}

impl FirstByteTimes {
    fn add(&mut self, took: Duration, now: Instant) {
        self.advance(now);
        self.current[bucket_of(took)] += 1;
    }

    /// The upper end of the bucket that the `share` of all lies in or below.
    fn percentile(&mut self, share: BasisPoints, now: Instant) -> Option<Duration> {
        self.advance(now);
        let counts = || self.current.iter().zip(&self.before).map(|(one, other)| u64::from(one + other));
        let known: u64 = counts().sum();
        if known < LEAST_KNOWN {
            return None;
        }
        let wanted = known * u64::from(share.0);
        let mut below = 0;
        let bucket = counts().position(|count| {
            below += count;
            below * 10_000 >= wanted
        });
        bucket.map(upper_end)
    }

    fn advance(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let halves = now.saturating_duration_since(since).as_secs() / HALF.as_secs();
        if halves == 0 {
            return;
        }
        self.before = if halves == 1 { self.current } else { [0; BUCKETS] };
        self.current = [0; BUCKETS];
        self.since = Some(now);
    }
}

fn bucket_of(took: Duration) -> usize {
    let millis = took.as_secs_f32() * 1e3;
    ((millis.max(1.0).log2() * PER_OCTAVE) as usize).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    Duration::from_secs_f32(((bucket + 1) as f32 / PER_OCTAVE).exp2() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hedging(change: impl FnOnce(&mut Hedge)) -> Arc<Hedging> {
        let mut spec = Hedge { share: BasisPoints(10_000), ..Hedge::default() };
        change(&mut spec);
        Arc::new(Hedging::new(spec))
    }

    #[test]
    fn a_share_of_the_requests_may_be_under_way_twice_and_so_many_at_a_time() {
        let now = Instant::now();
        let rare = hedging(|spec| spec.share = BasisPoints(2_500));
        (0..8).for_each(|_| rare.request(now));
        assert_eq!((0..8).filter_map(|_| rare.begin(now)).count(), 2, "a quarter of eight");
        let narrow = hedging(|spec| spec.at_most = 2);
        (0..8).for_each(|_| narrow.request(now));
        let permits = [narrow.begin(now), narrow.begin(now)];
        assert!(permits.iter().all(Option::is_some) && narrow.begin(now).is_none());
        drop(permits);
        assert!(narrow.begin(now).is_some(), "they have ended");
    }

    #[test]
    fn what_the_budget_refuses_is_not_counted_as_under_way() {
        let now = Instant::now();
        let spent = hedging(|spec| spec.at_most = 1);
        assert!(spent.begin(now).is_none(), "nothing is in the budget");
        spent.request(now);
        assert!(spent.begin(now).is_some());
    }

    #[test]
    fn a_delay_by_what_was_measured_is_known_after_a_hundred_and_forgotten_after_two_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(hedging(|_| {}).delay(start), Some(Duration::from_secs(1)), "as it was written");
        let measured = hedging(|spec| {
            spec.percentile = Some(BasisPoints(9_500));
            spec.after = Duration::from_millis(50);
        });
        (0..99).for_each(|_| measured.note_first_byte(Duration::from_millis(100), start));
        assert_eq!(measured.delay(start), None);
        measured.note_first_byte(Duration::from_millis(900), start);
        let delay = measured.delay(start).unwrap().as_millis();
        assert!((100..=119).contains(&delay), "{delay}");
        (0..10).for_each(|_| measured.note_first_byte(Duration::from_millis(900), at(61)));
        let delay = measured.delay(at(61)).unwrap().as_millis();
        assert!((900..=1_071).contains(&delay), "more than a twentieth are slow now: {delay}");
        assert_eq!(measured.delay(at(181)), None);
    }

    #[test]
    fn a_delay_by_what_was_measured_is_never_shorter_than_the_one_written() {
        let now = Instant::now();
        let measured = hedging(|spec| spec.percentile = Some(BasisPoints(5_000)));
        (0..200).for_each(|_| measured.note_first_byte(Duration::from_millis(3), now));
        assert_eq!(measured.delay(now), Some(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn the_percentile_is_no_less_than_the_true_one_and_a_bucket_more_at_most(
            mut millis in prop::collection::vec(1_u64..100_000, 100..300), share in 1_u16..=10_000,
        ) {
            let (mut times, now) = (FirstByteTimes::default(), Instant::now());
            for took in &millis {
                times.add(Duration::from_millis(*took), now);
            }
            millis.sort_unstable();
            let rank = (millis.len() * usize::from(share)).div_ceil(10_000).max(1);
            let exact = millis[rank - 1] as f64;
            let found = times.percentile(BasisPoints(share), now).unwrap().as_secs_f64() * 1e3;
            prop_assert!(found >= exact * 0.999 && found <= exact * 1.2, "{found} {exact}");
        }
    }
}
