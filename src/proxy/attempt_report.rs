//! Owns what endpoints, the log and clients hear of attempts that failed. Decides nothing.

use super::failure::RETRY_AFTER;
use crate::balance::{Lease, Refusal};
use crate::policy::PoolSpec;
use crate::route::PlanTarget;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use std::time::{Duration, Instant};

pub(super) fn report_failure(lease: &Lease, pool: &PoolSpec, now: Instant, metrics: &Metrics) {
    if let Some(ejected_for) = lease.failed(now) {
        let pool = &pool.name;
        metrics.ejected(pool);
        tracing::warn!(%pool, endpoint = %lease.endpoint().addr(), ?ejected_for, "endpoint ejected after failures");
    }
}

pub(super) fn report_refusal(lease: &Lease, pool: &PoolSpec, refusal: Refusal, now: Instant) {
    if let Some(passed_over_for) = lease.refused(refusal, now) {
        let pool = &pool.name;
        tracing::info!(%pool, endpoint = %lease.endpoint().addr(), ?refusal, ?passed_over_for, "endpoint refuses a model");
    }
}

/// When the first endpoint may be back: an ejection ends then, or enough checks have passed.
pub(super) fn next_return(live: &Snapshot, targets: &[PlanTarget], now: Instant) -> Duration {
    let pools = targets.iter().map(|target| target.route(&live.policy).pool);
    let returns = pools.map(|id| {
        let checked =
            live.pool_spec(id).probes.health.as_ref().map(|health| health.interval * health.healthy_after);
        let is_down = live.pool(id).members().iter().any(|member| !member.endpoint.is_up());
        let ejection = live.pool(id).next_return(now);
        ejection.into_iter().chain(checked.filter(|_| is_down)).min().unwrap_or(RETRY_AFTER)
    });
    returns.min().unwrap_or(RETRY_AFTER)
}
