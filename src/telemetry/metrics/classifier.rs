//! Owns the metrics of the classifier.
//!
//! Knows nothing of requests: it is given findings and totals.

use super::families::Families;
use crate::classify::{Classifier, ClassifyHead, Findings, ForwardTotals, Unknown};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Seconds: what goes on inside the classifier, from the reading of a short text to a whole deadline.
const INNER_SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Windows in a forward.
const WINDOWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Tokens of a text.
const TOKENS: &[f64] = &[16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

pub(super) struct ClassifierMetrics {
    duration: HistogramVec,
    unknown: IntCounterVec,
    stage: HistogramVec,
    tokens: Histogram,
    batch: Histogram,
    forwards: IntCounterVec,
    windows: IntCounterVec,
    forward_tokens: IntCounter,
    /// The totals at the last scrape and the classifier they were of: a new one starts at zero.
    last: Mutex<(Weak<Classifier>, ForwardTotals)>,
}

impl ClassifierMetrics {
    pub(super) fn new(families: &Families<'_>) -> Self {
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

    pub(super) fn classified(&self, findings: &Findings, took: Duration) {
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

    /// Adds what the classifier did since the last scrape.
    pub(super) fn follow(&self, classifier: &Arc<Classifier>) {
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
