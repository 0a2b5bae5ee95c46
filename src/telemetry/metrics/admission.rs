//! Owns what is shown of the pools' gates: how saturated pools are, who waits for them, and for how long.
//!
//! Knows nothing of how that is judged.

use super::families::Families;
use crate::snapshot::Snapshot;
use crate::telemetry::facts::AccessRecord;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};
use std::time::Instant;

pub(super) struct AdmissionMetrics {
    requests: IntCounterVec,
    saturation: GaugeVec,
    waiting: IntGaugeVec,
    duration: HistogramVec,
}

impl AdmissionMetrics {
    pub(super) fn new(families: &Families<'_>) -> Self {
        Self {
            requests: families.counter(
                "admissions_total",
                "Requests to pools with a gate, by priority and what became of them: passed, waited, left while they \
                 waited, or refused as saturated, queue_full, displaced or expired; without a priority before a plan.",
                &["pool", "priority", "result"],
            ),
            saturation: families.float_gauges(
                "pool_saturation_ratio",
                "How saturated a pool is, the mean of its endpoints; requests wait or are refused from 1 on.",
                &["pool"],
            ),
            waiting: families.gauges(
                "pool_queue_requests",
                "Requests that wait for a pool now, by priority.",
                &["pool", "priority"],
            ),
            duration: families.histogram(
                "pool_queue_seconds",
                "How long a request waited for its pool, whatever ended that.",
                &["pool", "priority"],
            ),
        }
    }

    /// Counts what became of a finished request, and how long it waited.
    pub(super) fn finished(&self, record: &AccessRecord) {
        let Some(admission) = record.details.as_ref().map(|details| &details.admission) else { return };
        let (Some(result), Some(pool)) = (admission.result, &record.upstream.pool) else { return };
        let priority = admission.priority.map(|priority| priority.to_string()).unwrap_or_default();
        self.requests.with_label_values(&[pool.as_str(), &priority, result]).inc();
        if let Some(queued_ms) = admission.queued_ms {
            self.duration.with_label_values(&[pool, &priority]).observe(queued_ms / 1000.0);
        }
    }

    /// Shows the gates of the live pools.
    pub(super) fn follow(&self, snapshot: &Snapshot, now: Instant) {
        self.saturation.reset();
        self.waiting.reset();
        for (spec, pool) in snapshot.policy.pools.iter().zip(&snapshot.upstreams.pools) {
            let Some(gate) = pool.gate() else { continue };
            self.saturation.with_label_values(&[&spec.name]).set(gate.saturation(now));
            for (priority, waiting) in gate.queue_lengths() {
                let labels = [spec.name.as_str(), &priority.to_string()];
                self.waiting.with_label_values(&labels).set(super::signed(waiting));
            }
        }
    }
}
