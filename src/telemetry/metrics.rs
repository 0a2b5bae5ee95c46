//! Owns the metric families and their exposition; the only user of `prometheus`.
//!
//! Label values come from the policy or from closed lists, never from a client, so the series are bounded.

mod admission;
mod cache;
mod classifier;
mod engines;
mod families;
mod requests;

use super::facts::AccessRecord;
use crate::classify::Findings;
use crate::snapshot::Snapshot;
use admission::AdmissionMetrics;
use cache::CacheMetrics;
use classifier::ClassifierMetrics;
use engines::EngineFigures;
use families::Families;
use prometheus::{Encoder, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};
use requests::RequestMetrics;
use std::time::{Duration, Instant};

/// Seconds: from a tenth of a millisecond, where a proxy lives, to ten minutes, where a long answer ends.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
];

/// All metric families of the process.
pub struct Metrics {
    registry: Registry,
    requests: RequestMetrics,
    shadows: ShadowMetrics,
    cache: CacheMetrics,
    classifier: ClassifierMetrics,
    upstream: UpstreamMetrics,
    engines: EngineFigures,
    admission: AdmissionMetrics,
    state: StateGauges,
}

struct ShadowMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    tokens: IntCounterVec,
}

struct UpstreamMetrics {
    retries: IntCounterVec,
    hedges: IntCounterVec,
    ejections: IntCounterVec,
    external_picks: HistogramVec,
    in_flight: IntGaugeVec,
    up: IntGaugeVec,
    wedged: IntGaugeVec,
}

/// What is read of the process when the metrics are printed.
#[derive(Debug, Default)]
pub struct ProcessGauges {
    /// Requests being worked on.
    pub in_flight: usize,
    /// Bytes of requests held.
    pub buffered_bytes: usize,
    /// Connections of clients.
    pub connections: usize,
    /// What was refused or ended before there was a request, by reason, since the start.
    pub refused: Vec<(&'static str, u64)>,
    /// Log lines that were lost, by stream, since the start.
    pub dropped_lines: Vec<(&'static str, u64)>,
    /// What Kubernetes says of endpoints.
    pub sources: Vec<SourceGauges>,
}

/// What Kubernetes says of the endpoints of one selection.
#[derive(Debug)]
pub struct SourceGauges {
    /// The selection as text.
    pub source: String,
    /// How many there are.
    pub endpoints: usize,
    /// Whether that is up to date.
    pub is_current: bool,
}

/// Gauges, set when the metrics are printed.
struct StateGauges {
    in_flight: IntGauge,
    buffered_bytes: IntGauge,
    connections: IntGauge,
    refused: IntCounterVec,
    dropped_lines: IntCounterVec,
    classifier_queue: IntGauge,
    reloads: IntCounterVec,
    generation: IntGauge,
    source_endpoints: IntGaugeVec,
    source_current: IntGaugeVec,
}

impl Metrics {
    /// Registers every family.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families(&registry);
        let metrics = Self {
            requests: RequestMetrics::new(&families),
            shadows: ShadowMetrics::new(&families),
            cache: CacheMetrics::new(&families),
            classifier: ClassifierMetrics::new(&families),
            upstream: UpstreamMetrics::new(&families),
            engines: EngineFigures::new(&families),
            admission: AdmissionMetrics::new(&families),
            state: StateGauges::new(&families),
            registry,
        };
        for result in ["success", "failure"] {
            metrics.state.reloads.with_label_values(&[result]);
        }
        metrics
    }

    /// Counts a finished request.
    pub fn finished(&self, record: &AccessRecord) {
        self.requests.finished(record);
        self.admission.finished(record);
    }

    /// Counts one text that the classifier read.
    pub fn classified(&self, findings: &Findings, took: Duration) {
        self.classifier.classified(findings, took);
    }

    /// Counts a shadow request by its result: `ok`, `failed` or `dropped`.
    pub fn shadowed(&self, model: &str, result: &str, took: Duration, tokens: Option<u64>) {
        self.shadows.requests.with_label_values(&[model, result]).inc();
        if result == "ok" {
            self.shadows.duration.with_label_values(&[model]).observe(took.as_secs_f64());
            self.shadows.tokens.with_label_values(&[model]).inc_by(tokens.unwrap_or_default());
        }
    }

    /// Counts a retry by the pool that failed and the cause.
    pub fn retried(&self, pool: &str, cause: &str) {
        self.upstream.retries.with_label_values(&[pool, cause]).inc();
    }

    /// Counts what became of sending a request to a second endpoint too.
    pub fn hedged(&self, pool: &str, result: &'static str) {
        self.upstream.hedges.with_label_values(&[pool, result]).inc();
    }

    /// Counts an ejected endpoint by the cause: `failures` or `latency`.
    pub fn ejected(&self, pool: &str, cause: &'static str) {
        self.upstream.ejections.with_label_values(&[pool, cause]).inc();
    }

    /// Counts an external picker that was asked, by its result: `picked`, `refused`, or why it could not be asked.
    pub fn picked_externally(&self, pool: &str, result: &'static str, took: Duration) {
        self.upstream.external_picks.with_label_values(&[pool, result]).observe(took.as_secs_f64());
    }

    /// Counts a page of engine metrics that was asked for, by its result: `success`, `failure` or `not_offered`.
    pub fn scraped(&self, pool: &str, result: &'static str, took: Duration) {
        self.engines.scraped(pool, result, took);
    }

    /// Counts a request that had an engine woken, by whether that woke: `woken` or `failed`.
    pub fn woken(&self, pool: &str, result: &'static str, took: Duration) {
        self.engines.woken(pool, result, took);
    }

    /// Counts something about engines' accounts of their KV caches: see the family `kv_events_total`.
    pub fn kv_event(&self, pool: &str, what: &'static str) {
        self.engines.kv_event(pool, what);
    }

    /// Counts a reload.
    pub fn reloaded(&self, result: Result<(), ()>) {
        let label = if result.is_ok() { "success" } else { "failure" };
        self.state.reloads.with_label_values(&[label]).inc();
    }

    /// Prints all families in Prometheus' text format; gauges are read from the live state at this moment.
    pub fn render(&self, snapshot: &Snapshot, process: &ProcessGauges) -> String {
        self.state.follow(process);
        self.state.classifier_queue.set(signed(snapshot.classifier.queued()));
        self.classifier.follow(&snapshot.classifier);
        self.cache.follow(snapshot.cache.as_ref());
        self.state.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        let now = Instant::now();
        self.upstream.in_flight.reset();
        self.upstream.up.reset();
        self.upstream.wedged.reset();
        for (pool, endpoint) in snapshot.endpoints() {
            let address = endpoint.addr().to_string();
            let labels = [pool.name.as_str(), address.as_str()];
            self.upstream.in_flight.with_label_values(&labels).set(i64::from(endpoint.in_flight()));
            let usable = endpoint.is_up() && !endpoint.ejected(now);
            self.upstream.up.with_label_values(&labels).set(i64::from(usable));
            self.upstream.wedged.with_label_values(&labels).set(i64::from(endpoint.is_wedged(now)));
        }
        self.engines.follow(snapshot, now);
        self.admission.follow(snapshot, now);
        let mut text = Vec::new();
        // Writing into a vector cannot fail, and every family was checked when it was registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ShadowMetrics {
    fn new(families: &Families<'_>) -> Self {
        Self {
            requests: families.counter(
                "shadow_requests_total",
                "Copies of requests for another model, by result: ok, failed or dropped.",
                &["model", "result"],
            ),
            duration: families.histogram(
                "shadow_duration_seconds",
                "Time from such a copy's first byte to the last of its answer.",
                &["model"],
            ),
            tokens: families.counter(
                "shadow_tokens_total",
                "Tokens of the answers to such copies, as the upstreams counted them.",
                &["model"],
            ),
        }
    }
}

impl UpstreamMetrics {
    fn new(families: &Families<'_>) -> Self {
        Self {
            retries: families.counter(
                "retries_total",
                "Attempts made again on another endpoint, by the pool that failed and the cause.",
                &["pool", "cause"],
            ),
            hedges: families.counter(
                "hedges_total",
                "Requests sent to a second endpoint too: started, and of these won by the second; and those that were not, since \
                 as many as may be were (over_budget) or no other could take it (no_endpoint).",
                &["pool", "result"],
            ),
            ejections: families.counter(
                "ejections_total",
                "Endpoints set aside, by the cause: failures or latency.",
                &["pool", "cause"],
            ),
            external_picks: families.histogram(
                "external_pick_seconds",
                "What the wait for an external endpoint picker took, by its result.",
                &["pool", "result"],
            ),
            in_flight: families.gauges(
                "endpoint_in_flight",
                "Requests on an endpoint now.",
                &["pool", "endpoint"],
            ),
            up: families.gauges(
                "endpoint_up",
                "1 while an endpoint passes its health checks and is not ejected.",
                &["pool", "endpoint"],
            ),
            wedged: families.gauges(
                "endpoint_wedged",
                "1 while an endpoint gets no requests since no token comes of those that it has.",
                &["pool", "endpoint"],
            ),
        }
    }
}

impl StateGauges {
    fn new(families: &Families<'_>) -> Self {
        Self {
            in_flight: families.gauge("requests_in_flight", "Requests being worked on now."),
            buffered_bytes: families
                .gauge("buffered_bytes", "Bytes of requests held now, with their copies."),
            connections: families.gauge("connections", "Connections of clients now."),
            refused: families.counter(
                "connection_refusals_total",
                "Connections refused or ended before there was a request, by reason.",
                &["reason"],
            ),
            dropped_lines: families.counter(
                "log_lines_dropped_total",
                "Log lines that no reader took, by stream: access or process.",
                &["stream"],
            ),
            classifier_queue: families.gauge("classifier_queue", "Prompts waiting for the classifier now."),
            reloads: families.counter(
                "policy_reloads_total",
                "Reloads of the policy, by result.",
                &["result"],
            ),
            generation: families.gauge("policy_generation", "Snapshots published since the start."),
            source_endpoints: families.gauges(
                "discovery_endpoints",
                "Endpoints that Kubernetes names, by what the policy selects.",
                &["source"],
            ),
            source_current: families.gauges(
                "discovery_current",
                "1 while Kubernetes says which endpoints there are; the last known ones stay otherwise.",
                &["source"],
            ),
        }
    }

    fn follow(&self, process: &ProcessGauges) {
        self.in_flight.set(signed(process.in_flight));
        self.buffered_bytes.set(signed(process.buffered_bytes));
        self.connections.set(signed(process.connections));
        self.source_endpoints.reset();
        self.source_current.reset();
        for source in &process.sources {
            let label = [source.source.as_str()];
            self.source_endpoints.with_label_values(&label).set(signed(source.endpoints));
            self.source_current.with_label_values(&label).set(i64::from(source.is_current));
        }
        for (family, counts) in
            [(&self.refused, &process.refused), (&self.dropped_lines, &process.dropped_lines)]
        {
            for (label, count) in counts {
                let series = family.with_label_values(&[*label]);
                series.inc_by(count.saturating_sub(series.get()));
            }
        }
    }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
