//! Owns outlier detection for a pool: which failures eject an endpoint, and how many may be ejected at once.
//! Refuses to know active health, the choice among endpoints and what counted as a failure.

use super::endpoint::Endpoint;
use crate::policy::{BasisPoints, Ejection};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Stands for a pool without outlier detection: no share of it may be ejected.
const NEVER: Ejection = Ejection {
    consecutive_failures: u32::MAX,
    base: Duration::ZERO,
    max: Duration::ZERO,
    max_share: BasisPoints(0),
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
        if self.endpoints.iter().filter(|known| known.ejected(now)).count() < self.max_ejected() {
            return Some(endpoint.eject(now, &self.rule));
        }
        endpoint.pass_over(now, &self.rule);
        None
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
