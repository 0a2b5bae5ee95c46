//! Owns outlier detection for a pool: which failures eject an endpoint, and how many may be ejected at once.
//! Refuses to know active health, the choice among endpoints and what counted as a failure.

use super::endpoint::Endpoint;
use crate::policy::{BasisPoints, Ejection};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer answers, older ones counting less, say nothing of how slow an endpoint is.
const LEAST_ANSWERS: f32 = 5.0;

/// Endpoints that differ by less are all quick enough.
const LEAST_DIFFERENCE: Duration = Duration::from_millis(100);

/// Stands for a pool without outlier detection: no share of it may be ejected.
const NEVER: Ejection = Ejection {
    consecutive_failures: u32::MAX,
    base: Duration::ZERO,
    max: Duration::ZERO,
    max_share: BasisPoints(0),
    slow_factor: 0,
};

const WHOLE_BP: u64 = 10_000;

/// The endpoints of the newest pool that takes requests, by which every ejection is judged.
///
/// A pool and its successors share one, behind one lock: requests that began on an older pool can't eject
/// beyond the cap of the newest.
#[derive(Debug)]
pub(super) struct OutlierDetector {
    generation: u64,
    rule: Ejection,
    endpoints: Vec<Arc<Endpoint>>,
}

impl OutlierDetector {
    /// `endpoints` are those that take traffic, each once.
    pub(super) fn new(generation: u64, rule: Option<Ejection>, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { generation, rule: rule.unwrap_or(NEVER), endpoints }
    }

    /// Puts a newer pool's endpoints and rule in place, and readmits as many as its cap has no room for, starting
    /// with those whose ejection ends first.
    pub(super) fn replace_with(&mut self, newer: Self, now: Instant) {
        if newer.generation <= self.generation {
            return;
        }
        *self = newer;
        let mut ejected: Vec<_> = self
            .endpoints
            .iter()
            .filter_map(|endpoint| Some((endpoint.ejected_until(now)?, endpoint)))
            .collect();
        ejected.sort_by_key(|(until, _)| *until);
        let excess = ejected.len().saturating_sub(self.max_ejected());
        for (_, endpoint) in &ejected[..excess] {
            endpoint.readmit(now);
        }
    }

    /// Records a failed request; `Some` when the endpoint is ejected for it, with how long.
    ///
    /// One that may not be ejected, since too many are or it is the only one, is passed over for that time instead:
    /// it stays the last resort.
    pub(super) fn failed(&self, endpoint: &Arc<Endpoint>, taken: Instant, now: Instant) -> Option<Duration> {
        let due = endpoint.failed(taken, now, &self.rule);
        if !due || !self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
            return None;
        }
        if self.ejected(now) < self.max_ejected() {
            return Some(endpoint.eject(now, &self.rule));
        }
        endpoint.pass_over(now, &self.rule);
        None
    }

    /// Notes how long the first token of a stream took; `Some` when the endpoint is ejected as slow, with how long.
    ///
    /// Slow is one whose mean is so many times the median of the others' as the rule has it. One that may not be ejected,
    /// since too many are, stays.
    pub(super) fn first_token(
        &self,
        endpoint: &Arc<Endpoint>,
        ttft: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let mean = |endpoint: &Endpoint| endpoint.engine().latency.ttft_of_many(now, LEAST_ANSWERS);
        if self.rule.slow_factor == 0 || endpoint.ejected(now) {
            return None;
        }
        endpoint.engine().latency.observe_ttft(now, ttft);
        let own = mean(endpoint)?;
        let is_other = |known: &&Arc<Endpoint>| !Arc::ptr_eq(known, endpoint) && !known.ejected(now);
        let mut others: Vec<Duration> =
            self.endpoints.iter().filter(is_other).filter_map(|known| mean(known)).collect();
        others.sort_unstable();
        let median = *others.get(others.len() / 2)?;
        let is_slow = own > median.saturating_mul(self.rule.slow_factor) && own > median + LEAST_DIFFERENCE;
        let is_known = self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint));
        if !is_slow || !is_known || self.ejected(now) >= self.max_ejected() {
            return None;
        }
        // It is judged anew when it is back.
        endpoint.engine().latency.forget_ttft();
        Some(endpoint.eject(now, &self.rule))
    }

    /// How many are ejected at `now`.
    fn ejected(&self, now: Instant) -> usize {
        self.endpoints.iter().filter(|known| known.ejected(now)).count()
    }

    fn max_ejected(&self) -> usize {
        max_ejected(self.rule.max_share, self.endpoints.len())
    }
}

/// How many of `endpoints` may be ejected at once.
///
/// The share is rounded down, but as in Envoy one may always go where the share is not zero and another stays. The
/// only endpoint of a pool goes only where the share is the whole pool.
fn max_ejected(max_share: BasisPoints, endpoints: usize) -> usize {
    let share = u64::from(max_share.0).min(WHOLE_BP);
    let allowed = (endpoints as u64 * share / WHOLE_BP) as usize;
    if allowed == 0 && share > 0 && endpoints > 1 { 1 } else { allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Ejection = Ejection {
        consecutive_failures: 5,
        base: Duration::from_secs(10),
        max: Duration::from_secs(60),
        max_share: BasisPoints(5_000),
        slow_factor: 3,
    };

    fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
        (0..count).map(|last| Endpoint::new(([10, 0, 0, last], 80).into(), "a:80".into())).collect()
    }

    #[test]
    fn an_endpoint_that_takes_several_times_as_long_as_the_others_is_ejected_and_judged_anew_after_that() {
        let (all, now) = (endpoints(4), Instant::now());
        let detector = OutlierDetector::new(1, Some(SLOW), all.clone());
        let ms = Duration::from_millis;
        let mut ejected = Vec::new();
        for _ in 0..10 {
            for (at, ttft) in [(1, 200), (2, 250), (3, 700), (0, 900)] {
                ejected
                    .extend(detector.first_token(&all[at], ms(ttft), now).map(|long| (at, long.as_secs())));
            }
        }
        assert_eq!(ejected, [(0, 10)], "700 ms are less than three times 250, and 900 are not");
        assert!(all[0].ejected(now) && !all[3].ejected(now));
        let later = now + Duration::from_secs(11);
        assert_eq!(detector.first_token(&all[0], ms(900), later), None, "one answer says nothing");
    }

    #[test]
    fn no_more_are_ejected_for_their_latency_than_may_be_and_none_alone_or_by_little() {
        let now = Instant::now();
        let ejected = |ttfts: &[u64]| {
            let all = endpoints(u8::try_from(ttfts.len()).expect("few"));
            let detector = OutlierDetector::new(1, Some(SLOW), all.clone());
            for _ in 0..10 {
                for (endpoint, ttft) in all.iter().zip(ttfts) {
                    detector.first_token(endpoint, Duration::from_millis(*ttft), now);
                }
            }
            all.iter().map(|endpoint| endpoint.ejected(now)).collect::<Vec<_>>()
        };
        assert_eq!(ejected(&[5_000]), [false]);
        assert_eq!(ejected(&[10, 60]), [false, false], "both are quick");
        assert_eq!(ejected(&[100, 5_000]), [false, true]);
        assert_eq!(ejected(&[100, 100, 100, 5_000, 6_000, 7_000]).iter().filter(|out| **out).count(), 3);
    }

    #[test]
    fn the_cap_rounds_down_but_lets_one_go_where_another_stays() {
        assert_eq!(
            (0..6).map(|n| max_ejected(BasisPoints(5_000), n)).collect::<Vec<_>>(),
            [0, 0, 1, 1, 2, 2]
        );
        assert_eq!((0..4).map(|n| max_ejected(BasisPoints(1_000), n)).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert_eq!((0..4).map(|n| max_ejected(BasisPoints(10_000), n)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((0..4).map(|n| max_ejected(BasisPoints(u16::MAX), n)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((0..4).map(|n| max_ejected(BasisPoints(0), n)).collect::<Vec<_>>(), [0; 4]);
    }
}
