//! Owns what is shown of engines: what they last said of themselves, and how asking them went.
//!
//! Knows nothing of how they are asked.

use super::families::Families;
use crate::balance::EngineMetrics;
use crate::snapshot::Snapshot;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec};
use std::time::{Duration, Instant};

/// Seconds: from a page out of the cache of a nearby engine to the most that one may take.
const PAGE_SECONDS: &[f64] = &[0.0005, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

pub(super) struct EngineFigures {
    waiting: GaugeVec,
    running: GaugeVec,
    kv_usage: GaugeVec,
    asleep: GaugeVec,
    age: GaugeVec,
    kv_live: GaugeVec,
    kv_blocks: GaugeVec,
    kv_events: IntCounterVec,
    scrapes: IntCounterVec,
    duration: HistogramVec,
    wakes: HistogramVec,
}

impl EngineFigures {
    pub(super) fn new(families: &Families<'_>) -> Self {
        let gauges = |name, help| families.float_gauges(name, help, &["pool", "endpoint"]);
        Self {
            waiting: gauges(
                "engine_requests_waiting",
                "Requests that wait for capacity in an endpoint's engine, by its last word.",
            ),
            running: gauges(
                "engine_requests_running",
                "Requests in the running batch of an endpoint's engine, by its last word.",
            ),
            kv_usage: gauges(
                "engine_kv_cache_usage_ratio",
                "The share of the KV cache in use of an endpoint's engine, by its last word.",
            ),
            asleep: gauges("engine_asleep", "1 while an endpoint's engine sleeps, by its last word."),
            age: gauges(
                "engine_metrics_age_seconds",
                "How long ago an endpoint's engine gave its figures; too old ones count for nothing.",
            ),
            kv_live: gauges(
                "engine_kv_account_live",
                "1 while an endpoint is picked by its engine's own account of its KV cache, 0 while by what was sent there.",
            ),
            kv_blocks: gauges(
                "engine_kv_account_blocks",
                "Blocks that an endpoint's engine has in its KV cache by its own account.",
            ),
            kv_events: families.counter(
                "kv_events_total",
                "Of engines' accounts of their KV caches: batches taken in (batch), those that are none (garbage), numbers that \
                 are missing (gap) or go back (restart), replays; of prompts' tokens: tokens_learnt, _failed, _skipped.",
                &["pool", "kind"],
            ),
            scrapes: families.counter(
                "engine_scrapes_total",
                "Pages of engine metrics asked for, by result: success, failure or not_offered.",
                &["pool", "result"],
            ),
            duration: families.histogram_of(
                "engine_scrape_seconds",
                "Time from asking for a page of engine metrics until it was read or given up.",
                &["pool"],
                PAGE_SECONDS,
            ),
            wakes: families.histogram(
                "engine_wake_seconds",
                "Time that a request waited until an engine that slept was awake, by result: woken or failed.",
                &["pool", "result"],
            ),
        }
    }

    pub(super) fn kv_event(&self, pool: &str, what: &'static str) {
        self.kv_events.with_label_values(&[pool, what]).inc();
    }

    pub(super) fn scraped(&self, pool: &str, result: &'static str, took: Duration) {
        self.scrapes.with_label_values(&[pool, result]).inc();
        self.duration.with_label_values(&[pool]).observe(took.as_secs_f64());
    }

    pub(super) fn woken(&self, pool: &str, result: &'static str, took: Duration) {
        self.wakes.with_label_values(&[pool, result]).observe(took.as_secs_f64());
    }

    /// Shows what the engines of the live endpoints last said.
    pub(super) fn follow(&self, snapshot: &Snapshot, now: Instant) {
        let Self { waiting, running, kv_usage, asleep, age, kv_live, kv_blocks, .. } = self;
        for family in [waiting, running, kv_usage, asleep, age, kv_live, kv_blocks] {
            family.reset();
        }
        for (pool, endpoint) in snapshot.endpoints() {
            if let Some(account) = endpoint.kv_account(now) {
                let labels = [pool.name.as_str(), &endpoint.addr().to_string()];
                kv_live.with_label_values(&labels).set(f64::from(u8::from(account.is_live)));
                kv_blocks.with_label_values(&labels).set(account.blocks as f64);
            }
            if let Some(metrics) = endpoint.engine_metrics() {
                self.show(&[&pool.name, &endpoint.addr().to_string()], &metrics, now);
            }
        }
    }

    fn show(&self, labels: &[&str; 2], metrics: &EngineMetrics, now: Instant) {
        for (family, figure) in [
            (&self.waiting, metrics.waiting),
            (&self.running, metrics.running),
            (&self.kv_usage, metrics.kv_usage),
            (&self.asleep, Some(f32::from(u8::from(metrics.is_asleep)))),
        ] {
            if let Some(figure) = figure {
                family.with_label_values(labels).set(f64::from(figure));
            }
        }
        let age = now.saturating_duration_since(metrics.at);
        self.age.with_label_values(labels).set(age.as_secs_f64());
    }
}
