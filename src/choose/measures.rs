//! Owns the formulas by which models are compared: price, expected time, load and score. Refuses to know who is
//! considered, and what becomes of the best.

use super::{Candidate, ChoiceInput, ChoiceReason};
use crate::policy::{Choose, ChooseBy, Price};
use std::time::Duration;

/// The least share of requests that a model is taken to answer, so that its expected time stays finite.
const LEAST_SUCCESS: f64 = 0.05;

/// The share of failures from which a model of unknown speed is not worth a try.
const TOO_MANY_FAILURES: f32 = 0.5;

/// The measures of one choice: what the request needs, and the greatest of each measure among those considered.
#[derive(Debug, Clone, Copy)]
pub struct Measures<'a> {
    how: &'a Choose,
    prompt_tokens: f64,
    expected_tokens: f64,
    /// The seconds that a model of unknown speed counts as taking while no request is trying it.
    trial: f64,
    /// The greatest measures; only the score asks for them.
    most: Maxima,
}

/// The greatest of each measure that is known.
#[derive(Debug, Clone, Copy, Default)]
struct Maxima {
    cost: f64,
    time: f64,
    load: f64,
    quality: f64,
}

impl<'a> Measures<'a> {
    /// Takes the measures of those considered, one of which may be `held`.
    pub(super) fn among<'i, 'c: 'i>(
        considered: impl Iterator<Item = &'i Candidate<'c>>,
        held: Option<&Candidate<'_>>,
        how: &'a Choose,
        input: &ChoiceInput,
    ) -> Self {
        let (prompt_tokens, expected_tokens) = (input.prompt_tokens as f64, input.expected_tokens as f64);
        let mut measures = Self { how, prompt_tokens, expected_tokens, trial: 0.0, most: Maxima::default() };
        measures.trial = held.and_then(|held| measures.known_time(held)).unwrap_or(0.0);
        if how.by == ChooseBy::Score {
            measures.most = considered.fold(Maxima::default(), |most, candidate| Maxima {
                cost: most.cost.max(measures.known_cost(candidate).unwrap_or(0.0)),
                time: most.time.max(measures.known_time(candidate).unwrap_or(0.0)),
                load: most.load.max(Self::load(candidate)),
                quality: most.quality.max(quality(candidate)),
            });
        }
        measures
    }

    /// The price of the request, in 10⁻¹² of the currency: `uncached tokens × prompt price + cached tokens × cached price +
    /// expected tokens × completion price`; infinite where the price is unknown.
    ///
    /// Prices are compared as numbers: the operator states all of a decision's models in one currency.
    pub fn cost(&self, candidate: &Candidate<'_>) -> f64 {
        self.known_cost(candidate).unwrap_or(f64::INFINITY)
    }

    /// The expected time for the answer, in seconds: `(ttft + (expected tokens - 1) × time per token) / share of
    /// requests that do not fail`, that share at least 0.05; of the two times an unknown one is 0. Where the replica is
    /// known, the ttft is that of the work before its first token, by the line of [`crate::balance::LatencySnapshot::prefill`].
    ///
    /// Where both are unknown it is 0 while no request is in flight, so that one request goes and measures the
    /// model, and infinite from then on until it has been measured; at half of its requests failed it is infinite,
    /// too. A conversation that has a model of known speed does not go and measure others: they count as quick as
    /// its own.
    pub fn time(&self, candidate: &Candidate<'_>) -> f64 {
        let reading = &candidate.reading;
        let is_worth_a_try = reading.in_flight == 0 && reading.failures < TOO_MANY_FAILURES;
        let unknown = || if is_worth_a_try { self.trial } else { f64::INFINITY };
        self.known_time(candidate).unwrap_or_else(unknown)
    }

    /// The load: `(requests in flight + 1) / capacity`, so that the first request is not all the difference.
    pub fn load(candidate: &Candidate<'_>) -> f64 {
        let (in_flight, capacity) = match candidate.replica {
            Some(replica) => (replica.in_flight, 1),
            None => (candidate.in_flight, candidate.capacity.max(1)),
        };
        (f64::from(in_flight) + 1.0) / f64::from(capacity)
    }

    /// The score, from 0 to 1: the mean of these terms by the policy's weights, each from 0 to 1 among those
    /// considered.
    ///
    /// - quality: `quality / highest quality`
    /// - cost: `1 - cost / highest known cost`
    /// - latency: `1 - time / longest known time`
    /// - load: `1 - load / highest load`
    ///
    /// What is unknown counts as the highest cost, and as the longest time where [`Self::time`] is infinite. Where
    /// the highest is 0 the term is 1 for all; with weights that are all 0 the score is.
    pub fn score(&self, candidate: &Candidate<'_>) -> f64 {
        let weights = &self.how.weights;
        let terms = [
            (weights.quality, share(quality(candidate), self.most.quality).unwrap_or(1.0)),
            (weights.cost, 1.0 - share(self.cost(candidate), self.most.cost).unwrap_or(0.0)),
            (weights.latency, 1.0 - share(self.time(candidate), self.most.time).unwrap_or(0.0)),
            (weights.load, 1.0 - share(Self::load(candidate), self.most.load).unwrap_or(0.0)),
        ];
        let all: f64 = terms.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let sum: f64 = terms.iter().map(|(weight, term)| f64::from(*weight) * term).sum();
        if all > 0.0 { sum / all } else { 0.0 }
    }

    /// The policy's measure of a model; the least is the best.
    pub(super) fn of(&self, candidate: &Candidate<'_>) -> f64 {
        match self.how.by {
            ChooseBy::Latency => self.time(candidate),
            ChooseBy::Score => -self.score(candidate),
            _ => self.cost(candidate),
        }
    }

    /// Whether the first of two models of the same measure is better all the same: only one that takes as long and
    /// has less to do.
    pub(super) fn is_freer(&self, one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
        self.how.by == ChooseBy::Latency && Self::load(one) < Self::load(other)
    }

    /// A measure as people read it: a score is the better the higher it is.
    pub(super) fn shown(&self, measure: f64) -> f64 {
        if self.how.by == ChooseBy::Score { -measure } else { measure }
    }

    /// By how much one measure is better than the held model's, from 0 to 1: the difference of scores, or the share that is saved.
    pub(super) fn gain(&self, held: f64, other: f64) -> f64 {
        match self.how.by {
            ChooseBy::Score => held - other,
            _ if held.is_infinite() => f64::from(u8::from(other.is_finite())),
            _ if held > 0.0 => (held - other) / held,
            _ => 0.0,
        }
    }

    /// Why the first by the policy's measure was chosen.
    pub(super) fn why(&self, candidate: &Candidate<'_>) -> ChoiceReason {
        match self.how.by {
            ChooseBy::Latency if self.known_time(candidate).is_none() => ChoiceReason::Untried,
            ChooseBy::Latency => ChoiceReason::Quickest,
            ChooseBy::Score => ChoiceReason::Best,
            _ => ChoiceReason::Cheapest,
        }
    }

    fn known_cost(&self, candidate: &Candidate<'_>) -> Option<f64> {
        let of = |tokens: f64, micros: u64| tokens * micros as f64;
        let cached =
            candidate.replica.map_or(0.0, |replica| f64::from(replica.cached)).min(self.prompt_tokens);
        let cost = |price: &Price| {
            of(self.prompt_tokens - cached, price.prompt_micros)
                + of(cached, price.cached_micros)
                + of(self.expected_tokens, price.completion_micros)
        };
        candidate.price.map(cost)
    }

    fn known_time(&self, candidate: &Candidate<'_>) -> Option<f64> {
        let reading = &candidate.reading;
        let of = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64());
        let further = (self.expected_tokens - 1.0).max(0.0);
        let success = (1.0 - f64::from(reading.failures)).max(LEAST_SUCCESS);
        let is_known = reading.ttft.is_some() || reading.per_token.is_some();
        let on_replica = reading.prefill.zip(candidate.replica);
        let first =
            on_replica.map_or_else(|| of(reading.ttft), |(prefill, replica)| prefill.of(replica.work));
        is_known.then(|| (first + of(reading.per_token) * further) / success)
    }
}

fn quality(candidate: &Candidate<'_>) -> f64 {
    f64::from(candidate.quality.0)
}

/// A value as a share of the highest, which an infinite one counts as; `None` where the highest is 0.
fn share(value: f64, most: f64) -> Option<f64> {
    (most > 0.0).then(|| value.min(most) / most)
}
