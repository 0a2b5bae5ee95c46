//! Owns the counting of finished requests.
//!
//! Knows the families that every request has; the others it takes from the table of facts.

use super::families::Families;
use crate::telemetry::columns::RequestCounter;
use crate::telemetry::facts::{AccessRecord, COUNTERS, DURATION, REQUESTS, TIME_TO_FIRST_TOKEN, TOKENS};
use crate::telemetry::prompt_counters::PROMPT_COUNTERS;
use prometheus::{CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

pub(super) struct RequestMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    ttft: HistogramVec,
    tokens: IntCounterVec,
    /// In the order of [`all_counters`].
    counters: Vec<CounterVec>,
    /// Handles by the model's name, of which the policy has few.
    models: RwLock<HashMap<String, Arc<ModelSeries>>>,
}

/// The series of one model.
struct ModelSeries {
    duration: Histogram,
    ttft: Histogram,
    /// Of the prompt, of the answer, and cached.
    tokens: [IntCounter; 3],
    /// The outcomes met first, up to [`MAX_OUTCOMES`].
    outcomes: RwLock<Vec<OutcomeSeries>>,
}

/// One outcome of requests to a model, with its counter.
struct OutcomeSeries {
    pool: String,
    status: u16,
    reason: &'static str,
    requests: IntCounter,
}

/// Outcomes cached per model; others are looked up by their labels.
const MAX_OUTCOMES: usize = 8;

/// The counters of the table of facts, all of them.
fn all_counters() -> impl Iterator<Item = &'static RequestCounter<AccessRecord>> {
    COUNTERS.iter().chain(PROMPT_COUNTERS)
}

impl RequestMetrics {
    pub(super) fn new(families: &Families<'_>) -> Self {
        Self {
            requests: families.counter(REQUESTS.name, REQUESTS.help, REQUESTS.labels),
            duration: families.histogram(DURATION.name, DURATION.help, DURATION.labels),
            ttft: families.histogram(
                TIME_TO_FIRST_TOKEN.name,
                TIME_TO_FIRST_TOKEN.help,
                TIME_TO_FIRST_TOKEN.labels,
            ),
            tokens: families.counter(TOKENS.name, TOKENS.help, TOKENS.labels),
            counters: all_counters().map(|counter| families.float_counter(&counter.family)).collect(),
            models: RwLock::default(),
        }
    }

    /// Counts a finished request.
    pub(super) fn finished(&self, record: &AccessRecord) {
        for (counter, family) in all_counters().zip(&self.counters) {
            (counter.count)(record, &mut |labels, amount| family.with_label_values(labels).inc_by(amount));
        }
        let (model, response) = (record.model(), &record.response);
        let series = self.model_series(model);
        self.count_outcome(model, &series, record);
        series.duration.observe(response.duration_ms / 1000.0);
        if let Some(ttft_ms) = response.ttft_ms {
            series.ttft.observe(ttft_ms / 1000.0);
        }
        let counts = [response.prompt_tokens, response.completion_tokens, response.cached_tokens];
        for (counter, count) in series.tokens.iter().zip(counts) {
            if let Some(count) = count.filter(|count| *count > 0) {
                counter.inc_by(count);
            }
        }
    }

    /// The series of one model; five look-ups, each of which hashes all its labels, are made once.
    fn model_series(&self, model: &str) -> Arc<ModelSeries> {
        let known = self.models.read().unwrap_or_else(PoisonError::into_inner).get(model).map(Arc::clone);
        known.unwrap_or_else(|| {
            let series = Arc::new(ModelSeries {
                duration: self.duration.with_label_values(&[model]),
                ttft: self.ttft.with_label_values(&[model]),
                tokens: ["prompt", "completion", "cached"]
                    .map(|kind| self.tokens.with_label_values(&[model, kind])),
                outcomes: RwLock::default(),
            });
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            models.insert(model.to_owned(), Arc::clone(&series));
            series
        })
    }

    /// Counts a request to a model by its outcome.
    fn count_outcome(&self, model: &str, series: &ModelSeries, record: &AccessRecord) {
        let pool = record.upstream.pool.as_deref().unwrap_or("");
        let (status, reason) = (record.response.status, record.routing.reason.unwrap_or("none"));
        let is_same = |outcome: &&OutcomeSeries| {
            outcome.pool == pool && outcome.status == status && outcome.reason == reason
        };
        let known = series.outcomes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = known.iter().find(is_same) {
            outcome.requests.inc();
            return;
        }
        drop(known);
        let requests =
            self.requests.with_label_values(&[model, pool, StatusLabel::of(status).as_str(), reason]);
        requests.inc();
        let mut known = series.outcomes.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_OUTCOMES && !known.iter().any(|outcome| is_same(&outcome)) {
            known.push(OutcomeSeries { pool: pool.to_owned(), status, reason, requests });
        }
    }
}

/// A status as a label: statuses are numbers below 1000, printed without an allocation.
struct StatusLabel([u8; 3]);

impl StatusLabel {
    fn of(status: u16) -> Self {
        let digit = |value: u16| b'0' + (value % 10) as u8;
        Self([digit(status / 100), digit(status / 10), digit(status)])
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("000")
    }
}
