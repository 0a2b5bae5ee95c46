//! Owns what is counted of signals, guards, kept answers, costs and copies of requests.
//!
//! Label values are the policy's names and the classifier's labels, never a client's words.

use super::families::Families;
use crate::record::Beside;
use prometheus::{CounterVec, HistogramVec, IntCounterVec};

/// What is counted of signals, guards, kept answers and costs.
pub(super) struct Rules {
    pub(super) signals: IntCounterVec,
    pub(super) choices: IntCounterVec,
    pub(super) guards: IntCounterVec,
    pub(super) pii: IntCounterVec,
    pub(super) cache: IntCounterVec,
    pub(super) reasoning: IntCounterVec,
    pub(super) cost: CounterVec,
    pub(super) shadows: IntCounterVec,
    pub(super) shadow_duration: HistogramVec,
    pub(super) shadow_tokens: IntCounterVec,
}

impl Rules {
    pub(super) fn new(families: &Families<'_>) -> Self {
        Self {
            signals: families.counter(
                "signal_matches_total",
                "Requests for which a signal matched, by its kind and name.",
                &["kind", "signal"],
            ),
            choices: families.counter(
                "model_choices_total",
                "Choices among several models of a decision, by what they were made and why this model.",
                &["model", "by", "why"],
            ),
            guards: families.counter(
                "guard_notices_total",
                "What guards noticed: jailbreak, pii, unjudged, answer_masked, answer_cut, hallucination, unverified_factual.",
                &["notice", "model"],
            ),
            pii: families.counter(
                "guard_pii_total",
                "Requests in which a guard noticed personal data, by its kind.",
                &["kind"],
            ),
            cache: families.counter(
                "cache_requests_total",
                "Requests whose answer may be kept, by what the cache said: hit, similar, followed, miss, bypass.",
                &["decision", "result"],
            ),
            reasoning: families.counter(
                "reasoning_total",
                "Requests whose model was told to reason, by the effort, or not to: off.",
                &["model", "effort"],
            ),
            cost: families.float_counter(
                "cost_total",
                "What answers cost by the policy's prices, in the currency.",
                &["model", "currency"],
            ),
            shadows: families.counter(
                "shadow_requests_total",
                "Copies of requests for another model, by result: ok, failed or dropped.",
                &["model", "result"],
            ),
            shadow_duration: families.histogram(
                "shadow_duration_seconds",
                "Time from such a copy's first byte to the last of its answer.",
                &["model"],
            ),
            shadow_tokens: families.counter(
                "shadow_tokens_total",
                "Tokens of the answers to such copies, as the upstreams counted them.",
                &["model"],
            ),
        }
    }

    pub(super) fn finished(&self, beside: &Beside, model: &str) {
        for signal in &beside.signals {
            self.signals.with_label_values(&[signal.kind, &signal.name]).inc();
        }
        if let (Some(by), Some(why)) = (beside.algorithm, beside.algorithm_reason) {
            self.choices.with_label_values(&[model, by, why]).inc();
        }
        let notices = [
            ("jailbreak", beside.jailbreak.is_some()),
            ("pii", !beside.pii.is_empty()),
            ("unjudged", !beside.unjudged.is_empty()),
            ("answer_masked", beside.answer_guard == Some("masked")),
            ("answer_cut", beside.answer_guard == Some("cut")),
            ("hallucination", beside.hallucination.is_some()),
            ("unverified_factual", beside.unverified_factual.is_some()),
        ];
        for (notice, _) in notices.into_iter().filter(|(_, noticed)| *noticed) {
            self.guards.with_label_values(&[notice, model]).inc();
        }
        for kind in &beside.pii {
            self.pii.with_label_values(&[kind]).inc();
        }
        if let Some(effort) = beside.reasoning {
            self.reasoning.with_label_values(&[model, effort]).inc();
        }
        if let (Some(cost), Some(currency)) = (beside.cost, &beside.currency) {
            self.cost.with_label_values(&[model, currency]).inc_by(cost);
        }
    }
}
