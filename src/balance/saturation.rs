//! Owns how saturated a pool is: the mean of its endpoints, each by its engine's queue and KV cache or by the requests that
//! it has. Pure.
//! Refuses to know what follows from that.
//!
//! The shares are those of the Gateway API inference extension's `utilization-detector` and `concurrency-detector`
//! (llm-d-router, `pkg/epp/framework/plugins/flowcontrol/saturationdetector`): the greater of queue / 5 and KV use / 0.8,
//! and of requests in flight over the most there may be. There an engine whose figures are missing counts as full; here it
//! does so only beside others that show theirs: where no engine does, requests in flight are all that is known.

use super::picker::{Candidates, EndpointView};
use crate::policy::{PoolLimits, Saturation};

/// What is added to what the endpoints have already.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedLoad {
    /// Requests that were let go and are on no endpoint yet.
    pub(super) pending: usize,
    /// Whether each request that came to an endpoint since its engine was asked counts as waiting there.
    ///
    /// So that between two looks no more are let go than the engines' queues may hold.
    pub(super) assumes_waiting: bool,
}

/// How saturated the candidates are; saturated from 1 on, and 0 where nothing is known of them.
pub(super) fn saturation(candidates: &Candidates<'_>, limits: &PoolLimits, added: AddedLoad) -> f64 {
    let Some(bounds) = limits.saturation else { return 0.0 };
    let (mut endpoints, mut any_reports) = (0_usize, false);
    for view in candidates.iter().flatten() {
        endpoints += 1;
        any_reports |= view.engine_load().is_reported;
    }
    if endpoints == 0 {
        return 0.0;
    }
    let rules = SaturationRules {
        bounds,
        max_in_flight: limits.max_in_flight.map(f64::from),
        any_reports,
        pending: added.pending as f64 / endpoints as f64,
        assumes_waiting: added.assumes_waiting,
    };
    let sum: f64 = candidates.iter().flatten().map(|view| rules.share(&view)).sum();
    sum / endpoints as f64
}

/// What one endpoint is judged by.
struct SaturationRules {
    bounds: Saturation,
    max_in_flight: Option<f64>,
    /// Some engine of the pool shows its figures.
    any_reports: bool,
    /// Requests on no endpoint yet, for each.
    pending: f64,
    assumes_waiting: bool,
}

impl SaturationRules {
    fn share(&self, view: &EndpointView<'_>) -> f64 {
        let in_flight = f64::from(view.in_flight()) + self.pending;
        let flights = self.max_in_flight.map(|most| in_flight / most);
        let load = view.engine_load();
        if !load.is_reported {
            return flights.unwrap_or(if self.any_reports { 1.0 } else { 0.0 });
        }
        let since =
            if self.assumes_waiting { view.given_since_report().max(0.0) + self.pending } else { 0.0 };
        let waiting = if load.waiting > 0.0 { load.waiting + self.pending } else { since };
        let queue = waiting / f64::from(self.bounds.queue);
        let kv_usage = load.kv_usage / f64::from(self.bounds.kv_usage.fraction());
        queue.max(kv_usage).max(flights.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Endpoint, EngineMetrics, PoolMember};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const NOTHING: AddedLoad = AddedLoad { pending: 0, assumes_waiting: false };

    struct Fixture {
        members: Vec<PoolMember>,
        now: Instant,
    }

    impl Fixture {
        fn new(count: u8) -> Self {
            let endpoint = |last| Endpoint::new(([10, 0, 0, last], 80).into(), "a:80".into());
            let members = (0..count).map(|last| PoolMember { endpoint: endpoint(last), weight: 1 }).collect();
            Self { members, now: Instant::now() }
        }

        fn says(&self, at: usize, waiting: f32, kv_usage: f32) {
            let metrics = EngineMetrics::new(self.now);
            let (waiting, kv_usage) = (Some(waiting), Some(kv_usage));
            self.endpoint(at).note_engine_metrics(EngineMetrics { waiting, kv_usage, ..metrics });
        }

        fn endpoint(&self, at: usize) -> &Arc<Endpoint> {
            &self.members[at].endpoint
        }

        /// In thousandths.
        fn is(&self, max_in_flight: Option<u32>, added: AddedLoad) -> u32 {
            let limits = PoolLimits {
                max_in_flight,
                saturation: Some(Saturation::default()),
                ..PoolLimits::default()
            };
            let saturation = saturation(&Candidates::new(&self.members, &[], self.now), &limits, added);
            (saturation * 1e3).round() as u32
        }
    }

    #[test]
    fn a_pool_is_as_saturated_as_its_endpoints_are_in_the_mean() {
        let pool = Fixture::new(2);
        pool.says(0, 10.0, 0.1);
        pool.says(1, 0.0, 0.4);
        assert_eq!(pool.is(None, NOTHING), 1250);
        pool.says(1, 0.0, 0.0);
        assert_eq!(pool.is(None, NOTHING), 1000);
    }

    #[test]
    fn an_engine_without_figures_counts_as_full_only_beside_others_that_have_some() {
        let pool = Fixture::new(2);
        assert_eq!(pool.is(None, NOTHING), 0, "nothing is known");
        pool.says(0, 0.0, 0.0);
        assert_eq!(pool.is(None, NOTHING), 500);
        let mut later = Fixture { members: pool.members.clone(), now: pool.now };
        later.now += Duration::from_secs(11);
        assert_eq!(later.is(None, NOTHING), 0, "all are too old");
        later.endpoint(0).enter(None);
        assert_eq!(later.is(Some(4), NOTHING), 125, "by what is in flight");
    }

    #[test]
    fn requests_in_flight_count_beside_the_figures() {
        let pool = Fixture::new(1);
        pool.says(0, 1.0, 0.2);
        for _ in 0..3 {
            pool.endpoint(0).enter(None);
        }
        assert_eq!(pool.is(Some(4), NOTHING), 800, "of four that came since, by the engine's queue");
        assert_eq!(pool.is(Some(4), AddedLoad { pending: 1, ..NOTHING }), 1000);
        assert_eq!(pool.is(Some(3), NOTHING), 1000);
    }

    #[test]
    fn while_others_wait_what_came_since_the_last_look_counts_as_waiting() {
        let pool = Fixture::new(2);
        pool.says(0, 0.0, 0.0);
        pool.says(1, 0.0, 0.0);
        for _ in 0..5 {
            pool.endpoint(0).enter(None);
        }
        assert_eq!(pool.is(None, NOTHING), 0);
        let careful = AddedLoad { pending: 0, assumes_waiting: true };
        assert_eq!(pool.is(None, careful), 500);
        assert_eq!(pool.is(None, AddedLoad { pending: 4, ..careful }), 900);
    }
}
