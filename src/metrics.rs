//! Owns every metric family: its name, its help and its labels; the only door to `prometheus`.
//!
//! Label values come from the policy or from closed lists, never from a client, so the series are bounded.

mod families;
mod rules;

use crate::classify::{Classifier, ClassifyHead, Findings, ForwardTotals, Unknown};
use crate::record::Record;
use crate::snapshot::Snapshot;
use families::Families;
use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};
use rules::Rules;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// Seconds: from a tenth of a millisecond, where a proxy lives, to ten minutes, where a long answer ends.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
];

/// Seconds: what goes on inside the classifier, from the reading of a short text to a whole deadline.
const INNER_SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Windows in a forward.
const WINDOWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Tokens of a text.
const TOKENS: &[f64] = &[16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    decisions: IntCounterVec,
    rejections: IntCounterVec,
    duration: HistogramVec,
    ttft: HistogramVec,
    tokens: IntCounterVec,
    /// By the model's name, of which the policy has few.
    models: RwLock<HashMap<String, Arc<OfModel>>>,
    rules: Rules,
    classifier: Classification,
    upstream: Upstream,
    state: State,
}

/// What is counted of one model.
struct OfModel {
    duration: Histogram,
    ttft: Histogram,
    /// Of the prompt, of the answer, and cached.
    tokens: [IntCounter; 3],
    /// The ways of ending that were met first.
    ways: RwLock<Vec<Way>>,
}

/// How requests end, and how many have ended so.
struct Way {
    pool: String,
    status: u16,
    reason: &'static str,
    requests: IntCounter,
}

/// The most ways of ending that are remembered of a model; others are looked up by their labels.
const WAYS: usize = 8;

/// What is counted of the classifier.
struct Classification {
    duration: HistogramVec,
    unknown: IntCounterVec,
    stage: HistogramVec,
    tokens: Histogram,
    batch: Histogram,
    forwards: IntCounterVec,
    windows: IntCounterVec,
    forward_tokens: IntCounter,
    /// What was counted last, and of which classifier: another one starts at zero.
    last: Mutex<(Weak<Classifier>, ForwardTotals)>,
}

/// What is counted of upstreams.
struct Upstream {
    retries: IntCounterVec,
    ejections: IntCounterVec,
    in_flight: IntGaugeVec,
    up: IntGaugeVec,
}

/// What is true now.
struct State {
    in_flight: IntGauge,
    buffered_bytes: IntGauge,
    classifier_queue: IntGauge,
    reloads: IntCounterVec,
    generation: IntGauge,
}

impl Metrics {
    /// Registers every family.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families(&registry);
        let metrics = Self {
            requests: families.counter(
                "requests_total",
                "Finished requests, by the model that answered, the pool, the status and the reason of the choice.",
                &["model", "pool", "status", "reason"],
            ),
            decisions: families.counter(
                "decisions_total",
                "Requests whose prompt was classified, by category and decision.",
                &["category", "decision", "model"],
            ),
            rejections: families.counter(
                "rejections_total",
                "Answers of our own instead of an upstream's, by code.",
                &["code"],
            ),
            duration: families.histogram(
                "request_duration_seconds",
                "Time from the request's header to the last byte of the answer.",
                &["model"],
            ),
            ttft: families.histogram(
                "time_to_first_token_seconds",
                "Time from the request's header to the first byte of the answer's body.",
                &["model"],
            ),
            tokens: families.counter(
                "tokens_total",
                "Tokens as the upstreams counted them; cached ones are part of the prompt's.",
                &["model", "kind"],
            ),
            models: RwLock::default(),
            rules: Rules::new(&families),
            classifier: Classification::new(&families),
            upstream: Upstream::new(&families),
            state: State::new(&families),
            registry,
        };
        for result in ["success", "failure"] {
            metrics.state.reloads.with_label_values(&[result]);
        }
        metrics
    }

    /// Counts a finished request.
    pub fn finished(&self, record: &Record) {
        let (chosen, answered) = (&record.chosen, &record.answered);
        let model = chosen.model.as_deref().unwrap_or("");
        let decision = chosen.decision.as_deref().unwrap_or("");
        if let Some(category) = &chosen.category {
            self.decisions.with_label_values(&[category.as_str(), decision, model]).inc();
        }
        if let Some(beside) = &chosen.beside {
            self.rules.finished(beside, model);
            if let Some(result) = beside.cache {
                self.rules.cache.with_label_values(&[decision, result]).inc();
            }
        }
        if let Some(code) = answered.error {
            self.rejections.with_label_values(&[code]).inc();
        }
        let series = self.of_model(model);
        let way = (chosen.pool.as_deref().unwrap_or(""), answered.status, chosen.reason.unwrap_or("none"));
        self.ended(model, &series, way);
        series.duration.observe(answered.duration_ms / 1000.0);
        if let Some(ttft_ms) = answered.ttft_ms {
            series.ttft.observe(ttft_ms / 1000.0);
        }
        let counts = [answered.prompt_tokens, answered.completion_tokens, answered.cached_tokens];
        for (counter, count) in series.tokens.iter().zip(counts) {
            if let Some(count) = count.filter(|count| *count > 0) {
                counter.inc_by(count);
            }
        }
    }

    /// The series of one model; five look-ups, each of which hashes all its labels, are made once.
    fn of_model(&self, model: &str) -> Arc<OfModel> {
        let known = self.models.read().unwrap_or_else(PoisonError::into_inner).get(model).map(Arc::clone);
        known.unwrap_or_else(|| {
            let series = Arc::new(OfModel {
                duration: self.duration.with_label_values(&[model]),
                ttft: self.ttft.with_label_values(&[model]),
                tokens: ["prompt", "completion", "cached"]
                    .map(|kind| self.tokens.with_label_values(&[model, kind])),
                ways: RwLock::default(),
            });
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            models.insert(model.to_owned(), Arc::clone(&series));
            series
        })
    }

    /// Counts a request to a model by the way in which it ended.
    fn ended(&self, model: &str, series: &OfModel, (pool, status, reason): (&str, u16, &'static str)) {
        let is_it = |way: &&Way| way.pool == pool && way.status == status && way.reason == reason;
        let known = series.ways.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = known.iter().find(is_it) {
            way.requests.inc();
            return;
        }
        drop(known);
        let requests = self.requests.with_label_values(&[model, pool, Status::of(status).as_str(), reason]);
        requests.inc();
        let mut known = series.ways.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < WAYS && !known.iter().any(|way| is_it(&way)) {
            known.push(Way { pool: pool.to_owned(), status, reason, requests });
        }
    }

    /// Counts one text that the classifier was asked about.
    pub fn classified(&self, findings: &Findings, took: Duration) {
        self.classifier.classified(findings, took);
    }

    /// Counts a copy of a request for another model, and what came of it: `ok`, `failed` or `dropped`.
    pub fn shadowed(&self, model: &str, result: &str, took: Duration, tokens: Option<u64>) {
        self.rules.shadows.with_label_values(&[model, result]).inc();
        if result == "ok" {
            self.rules.shadow_duration.with_label_values(&[model]).observe(took.as_secs_f64());
            self.rules.shadow_tokens.with_label_values(&[model]).inc_by(tokens.unwrap_or_default());
        }
    }

    /// Counts an attempt that is made again elsewhere.
    pub fn retried(&self, pool: &str, cause: &str) {
        self.upstream.retries.with_label_values(&[pool, cause]).inc();
    }

    /// Counts an endpoint that was set aside.
    pub fn ejected(&self, pool: &str) {
        self.upstream.ejections.with_label_values(&[pool]).inc();
    }

    /// Counts a reload.
    pub fn reloaded(&self, result: Result<(), ()>) {
        let label = if result.is_ok() { "success" } else { "failure" };
        self.state.reloads.with_label_values(&[label]).inc();
    }

    /// Prints all families in Prometheus' text format; gauges are read from the live state at this moment.
    pub fn render(&self, snapshot: &Snapshot, in_flight: usize, buffered_bytes: usize) -> String {
        self.state.in_flight.set(signed(in_flight));
        self.state.buffered_bytes.set(signed(buffered_bytes));
        self.state.classifier_queue.set(signed(snapshot.classifier.queued()));
        self.classifier.follow(&snapshot.classifier);
        self.state.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        let now = Instant::now();
        self.upstream.in_flight.reset();
        self.upstream.up.reset();
        for (pool, endpoint) in snapshot.endpoints() {
            let address = endpoint.addr().to_string();
            let labels = [pool.name.as_str(), address.as_str()];
            self.upstream.in_flight.with_label_values(&labels).set(i64::from(endpoint.in_flight()));
            let usable = endpoint.is_up() && !endpoint.ejected(now);
            self.upstream.up.with_label_values(&labels).set(i64::from(usable));
        }
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

impl Classification {
    fn new(families: &Families) -> Self {
        let metrics = Self {
            duration: families.histogram(
                "classifier_duration_seconds",
                "Time in the classifier, its queue included, by outcome: ok, or the first reason for no answer.",
                &["outcome"],
            ),
            unknown: families.counter(
                "classifier_unknown_total",
                "Questions to the classifier that got no answer, by question and reason.",
                &["question", "reason"],
            ),
            stage: families.histogram_of(
                "classifier_stage_seconds",
                "Time of a text in each stage of the classifier: queue, tokenize, compute.",
                &["stage"],
                INNER_SECONDS,
            ),
            tokens: families.plain_histogram(
                "classifier_text_tokens",
                "Tokens that the classifier read of a text.",
                TOKENS,
            ),
            batch: families.plain_histogram(
                "classifier_batch_windows",
                "The most windows in a forward that a text had part in; texts known from the cache have none.",
                WINDOWS,
            ),
            forwards: families.counter(
                "classifier_forwards_total",
                "Forwards of the classifier's models, by result.",
                &["result"],
            ),
            windows: families.counter(
                "classifier_windows_total",
                "Windows of texts, by where their answers came from: computed or cached.",
                &["source"],
            ),
            forward_tokens: families.plain_counter(
                "classifier_forward_tokens_total",
                "Tokens in the forwards of the classifier's models.",
            ),
            last: Mutex::default(),
        };
        for question in ClassifyHead::ALL {
            for reason in Unknown::ALL {
                metrics.unknown.with_label_values(&[question.as_str(), reason.as_str()]);
            }
        }
        metrics
    }

    fn classified(&self, findings: &Findings, took: Duration) {
        self.duration.with_label_values(&[findings.outcome()]).observe(took.as_secs_f64());
        for (question, reason) in findings.unknowns() {
            self.unknown.with_label_values(&[question.as_str(), reason.as_str()]).inc();
        }
        let cost = findings.cost;
        if cost.tokens == 0 {
            return;
        }
        self.tokens.observe(cost.tokens as f64);
        let stages = [("queue", cost.queued), ("tokenize", cost.tokenize), ("compute", cost.compute)];
        for (stage, time) in stages {
            self.stage.with_label_values(&[stage]).observe(time.as_secs_f64());
        }
        if cost.batch > 0 {
            self.batch.observe(cost.batch as f64);
        }
    }

    /// Counts what the classifier did since the last time.
    fn follow(&self, classifier: &Arc<Classifier>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(last.0.as_ptr(), Arc::as_ptr(classifier)) {
            *last = (Arc::downgrade(classifier), ForwardTotals::default());
        }
        let (now, then) = (classifier.forwards(), last.1);
        last.1 = now;
        let failed = now.failed - then.failed;
        self.forwards.with_label_values(&["failure"]).inc_by(failed);
        self.forwards.with_label_values(&["success"]).inc_by(now.count - then.count - failed);
        self.windows.with_label_values(&["computed"]).inc_by(now.windows - then.windows);
        self.windows.with_label_values(&["cached"]).inc_by(now.cached - then.cached);
        self.forward_tokens.inc_by(now.tokens - then.tokens);
    }
}

impl Upstream {
    fn new(families: &Families) -> Self {
        Self {
            retries: families.counter(
                "retries_total",
                "Attempts made again on another endpoint, by the pool that failed and the cause.",
                &["pool", "cause"],
            ),
            ejections: families.counter("ejections_total", "Endpoints set aside after failures.", &["pool"]),
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
        }
    }
}

impl State {
    fn new(families: &Families) -> Self {
        Self {
            in_flight: families.gauge("requests_in_flight", "Requests being worked on now."),
            buffered_bytes: families.gauge("buffered_bytes", "Bytes of request bodies held now."),
            classifier_queue: families.gauge("classifier_queue", "Prompts waiting for the classifier now."),
            reloads: families.counter(
                "policy_reloads_total",
                "Reloads of the policy, by result.",
                &["result"],
            ),
            generation: families.gauge("policy_generation", "Snapshots published since the start."),
        }
    }
}

/// A status as a label: statuses are numbers below 1000, printed without a heap.
struct Status([u8; 3]);

impl Status {
    fn of(status: u16) -> Self {
        let digit = |value: u16| b'0' + (value % 10) as u8;
        Self([digit(status / 100), digit(status / 10), digit(status)])
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("000")
    }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
