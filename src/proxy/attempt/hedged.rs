//! Owns what of an attempt may be sent to a second endpoint, and what follows once one of two has answered.
//!
//! Knows nothing of how two are asked.

use super::Attempts;
use crate::balance::{Lease, Refusal};
use crate::policy::PoolSpec;
use crate::proxy::endpoint_reports::{report_ejection, report_failure, report_refusal};
use crate::proxy::hedge::{FirstEndpoint, HedgePlan, RaceFailure, RaceOutcome, Racer, SecondPick};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use http::{HeaderMap, StatusCode};
use std::sync::{Arc, Mutex};
use std::time::Instant;

impl Attempts {
    /// Prepares for the current attempt to be sent to a second endpoint too, where its pool does that and it may be.
    pub(in crate::proxy) fn prepare_hedge(
        &mut self,
        live: &Arc<Snapshot>,
        headers: &HeaderMap,
        metrics: &Arc<Metrics>,
    ) {
        self.connection.hedge = None;
        let target = self.target();
        let id = target.pool(&live.policy);
        let (Some(hedging), Some(lease)) = (&live.upstreams.hedging[id.0], &self.lease) else { return };
        let now = Instant::now();
        let may_be = self.request.may_be_hedged()
            && self.body.len() <= hedging.max_body_bytes()
            && live.pool(id).members().len() > 1;
        if !may_be {
            return;
        }
        if lease.endpoint().speaks_h2c() {
            // What Kubernetes says of its endpoints no check of the policy can know.
            let pool = &live.pool_spec(id).name;
            metrics.hedged(pool, "h2c");
            if hedging.is_first_unhedged() {
                tracing::warn!(pool, "requests to endpoints that are spoken to over h2c are not hedged");
            }
            return;
        }
        if self.count == 1 && !self.connection.is_reconnect {
            hedging.request(now);
        }
        let effects = self.request.plan.effects.as_ref();
        let mut tried = self.tried.clone();
        tried.push(lease.endpoint().addr());
        self.connection.hedge = Some(Arc::new(HedgePlan {
            hedging: Arc::clone(hedging),
            second: SecondPick {
                live: Arc::clone(live),
                target: target.clone(),
                headers: headers.clone(),
                request: self.request.request.clone(),
                upstream_request: effects.and_then(|effects| effects.request.clone()),
                tried,
            },
            first: FirstEndpoint { host: Arc::clone(lease.endpoint().host()), rank: lease.rank() },
            body: self.body.clone(),
            sent: now,
            delay: hedging.delay(now),
            connect: live.pool_spec(id).timeouts.connect,
            metrics: Arc::clone(metrics),
            rival: Arc::default(),
            outcome: Mutex::default(),
        }));
    }

    /// What may ask a second endpoint beside the current one.
    pub(in crate::proxy) fn hedge(&self) -> Option<&Arc<HedgePlan>> {
        self.connection.hedge.as_ref()
    }

    /// Which of two endpoints has answered, where two were asked.
    pub(in crate::proxy) fn answered_by(&self) -> Option<Racer> {
        self.connection.answered_by
    }

    /// Takes over how the race of two endpoints has ended: from then on the winner is the endpoint of the attempt. Says whether
    /// there was one.
    pub(in crate::proxy) fn settle_hedge(
        &mut self,
        live: &Snapshot,
        now: Instant,
        metrics: &Metrics,
    ) -> bool {
        let Some(outcome) = self.connection.hedge.as_ref().and_then(|hedge| hedge.take_outcome()) else {
            return false;
        };
        let RaceOutcome { winner, second, failure_of_first, failure_of_second } = outcome;
        self.connection.answered_by = Some(winner);
        let spec = self.spec(live);
        match (winner, second) {
            (Racer::Second, Some(second)) => {
                if let Some(first) = &self.lease {
                    match failure_of_first {
                        Some(failure) => report(first, spec, failure, now, metrics),
                        None => report_slow(first, spec, now, metrics),
                    }
                    self.tried.extend(failure_of_first.map(|_| first.endpoint().addr()));
                }
                if let Some(in_flight) = &mut self.in_flight {
                    in_flight.since = second.taken();
                    in_flight.work = second.expected_work();
                }
                self.connection.mark = second.endpoint().mark();
                self.lease = Some(second);
            }
            (Racer::First, Some(second)) => {
                if let Some(failure) = failure_of_second {
                    report(&second, spec, failure, now, metrics);
                    self.tried.push(second.endpoint().addr());
                }
            }
            (_, None) => {}
        }
        true
    }
}

/// Tells of an endpoint that lost a race by failing.
fn report(lease: &Lease, spec: &PoolSpec, failure: RaceFailure, now: Instant, metrics: &Metrics) {
    match failure {
        RaceFailure::Refused(
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE,
        ) => report_refusal(lease, spec, Refusal::Saturated, now),
        // Another endpoint answers what this one would not.
        RaceFailure::Broken | RaceFailure::Refused(_) => report_failure(lease, spec, now, metrics),
    }
}

/// Tells of an endpoint that lost a race to one that was asked later: it would have been slower yet.
fn report_slow(lease: &Lease, spec: &PoolSpec, now: Instant, metrics: &Metrics) {
    if let Some(ejected_for) = lease.outrun(now) {
        report_ejection(lease, spec, "latency", ejected_for, metrics);
    }
}
