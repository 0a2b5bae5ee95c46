//! Owns what is told of endpoints: that one fails, is slow or refuses a model, to the pool, the log and the metrics; and that
//! there is none, to the client.
//!
//! Decides nothing: what a failure is the attempts say, and what follows from it the pool.

use super::failure::RETRY_AFTER;
use crate::balance::{Lease, Refusal};
use crate::openai::Rejection;
use crate::policy::PoolSpec;
use crate::route::PlanTarget;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use std::time::{Duration, Instant};

pub(super) fn report_failure(lease: &Lease, pool: &PoolSpec, now: Instant, metrics: &Metrics) {
    if let Some(ejected_for) = lease.failed(now) {
        report_ejection(lease, pool, "failures", ejected_for, metrics);
    }
}

pub(super) fn report_ejection(
    lease: &Lease,
    pool: &PoolSpec,
    cause: &'static str,
    ejected_for: Duration,
    metrics: &Metrics,
) {
    let pool = &pool.name;
    metrics.ejected(pool, cause);
    tracing::warn!(%pool, endpoint = %lease.endpoint().addr(), cause, ?ejected_for, "endpoint ejected");
}

pub(super) fn report_refusal(lease: &Lease, pool: &PoolSpec, refusal: Refusal, now: Instant) {
    if let Some(passed_over_for) = lease.refused(refusal, now) {
        let pool = &pool.name;
        tracing::info!(%pool, endpoint = %lease.endpoint().addr(), ?refusal, ?passed_over_for, "endpoint refuses a model");
    }
}

/// Says that no endpoint takes a request: as many as they may have are on all of them, or they are out.
pub(super) fn no_endpoint(live: &Snapshot, targets: &[PlanTarget], now: Instant) -> Rejection {
    let is_full = |target: &PlanTarget| live.pool(target.pool(&live.policy)).is_full(now);
    if targets.iter().any(is_full) {
        return Rejection::Overloaded { retry_after: RETRY_AFTER };
    }
    let model = targets.first().map(|target| live.policy[target.model].name.clone()).unwrap_or_default();
    Rejection::NoHealthyEndpoint { model, retry_after: next_return(live, targets, now) }
}

/// When the first endpoint may be back: an ejection ends then, or enough checks have passed.
fn next_return(live: &Snapshot, targets: &[PlanTarget], now: Instant) -> Duration {
    let pools = targets.iter().map(|target| target.pool(&live.policy));
    let returns = pools.map(|id| {
        let checked =
            live.pool_spec(id).probes.health.as_ref().map(|health| health.interval * health.healthy_after);
        let is_down = live.pool(id).members().iter().any(|member| !member.endpoint.is_up());
        let ejection = live.pool(id).next_return(now);
        ejection.into_iter().chain(checked.filter(|_| is_down)).min().unwrap_or(RETRY_AFTER)
    });
    returns.min().unwrap_or(RETRY_AFTER)
}
