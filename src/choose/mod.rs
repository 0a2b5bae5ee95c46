//! Owns which of several models gets a request, and the word for why. Refuses to know where its numbers come from:
//! what a model costs, how quick it has been and whether it can be reached are arguments, and so are chance and the
//! model that the conversation has.
//!
//! # Which models are candidates
//!
//! Models that can be reached; of these, models of at least `min_quality`; of these, models within `max_ttft` and
//! `max_time_per_token` by what was measured. A limit that no model meets is passed over, so that one is always chosen.
//! What is unknown is within every limit.
//!
//! # Which is chosen, and by how much one is better
//!
//! | by | chosen | better than the held model by |
//! | --- | --- | --- |
//! | first | the first | nothing: held as long as it can be reached |
//! | weight | by chance or by key, with shares by weight | nothing: held as long as it can be reached |
//! | cost | the least price for the tokens | the share of the held model's price that is saved |
//! | latency | the least expected time for the answer | the share of the held model's time that is saved |
//! | score | the highest score | the difference of the scores, from 0 to 1 |
//!
//! A conversation leaves its model when another is better by more than the margin, or when its own is no longer a
//! candidate. [`Measures`] has the formulas. Of equals the first in the list is chosen; of equally quick ones, such as
//! those of which nothing is known yet, the one with the least load.
//!
//! # Where the state of replicas comes in
//!
//! A candidate is a pair: a model, and the replica of it that would get the request. What is cached there lowers
//! [`Measures::cost`]; its queue, and what of the prompt is not cached, are in [`Measures::time`]; its requests are
//! [`Measures::load`]. So a model that is quick on average is passed over while the replica that has the conversation is
//! busy, and a slower one chosen that has it cached. Of a model whose replicas are not told apart
//! ([`Candidate::replica`] is `None`) the averages and sums over all of them count.

mod measures;

pub use measures::Measures;

use crate::balance::{HashEntry, LatencySnapshot, ReplicaForecast, hash_key, rendezvous};
use crate::policy::{BasisPoints, Choose, ChooseBy, ModelId, Price};
use smallvec::SmallVec;
use std::fmt;

/// A model as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The model.
    pub model: ModelId,
    /// What the choice by key knows it by; see [`identity`].
    pub identity: u64,
    /// Its share relative to the others; 0 gets none unless all have 0.
    pub weight: u32,
    /// What it costs; unknown counts as more than all that is known.
    pub price: Option<&'a Price>,
    /// How good it is.
    pub quality: BasisPoints,
    /// How quick it has been.
    pub reading: LatencySnapshot,
    /// The replica that would get the request, where its pool goes by what replicas have cached and to do.
    pub replica: Option<ReplicaForecast>,
    /// Whether one of its pools has an endpoint for a request.
    pub reachable: bool,
    /// Requests that the endpoints of its pools have, those for other models too.
    pub in_flight: u32,
    /// How many requests its pools serve beside each other, in any unit that is the same for all candidates, such as
    /// endpoints; 0 is read as 1.
    pub capacity: u32,
}

/// One request, as the choice sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChoiceInput {
    /// Tokens of the prompt, estimated.
    pub prompt_tokens: u64,
    /// Tokens of the answer, estimated.
    pub expected_tokens: u64,
    /// A number that is uniformly random.
    pub random: u64,
    /// What the requests of a conversation have in common, hashed: with [`ChooseBy::Weight`] it takes the place of
    /// chance.
    pub key: Option<u64>,
    /// The place among the candidates of the model that the conversation has.
    pub held: Option<usize>,
    /// By how much another model must be better than the held one, from 0 to 1.
    pub margin: f32,
}

/// Which model gets the request, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelChoice {
    /// Its place among the candidates; 0 where there are none.
    pub index: usize,
    /// Why this one.
    pub reason: ChoiceReason,
    /// The best of the others, where they are compared by a measure.
    pub runner_up: Option<RunnerUp>,
}

/// The candidate that would have been chosen without the chosen one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunnerUp {
    /// Its place among the candidates.
    pub index: usize,
    /// Its measure: the price in 10⁻¹² of the currency, the time in seconds, or the score.
    pub measure: f64,
    /// The chosen one's.
    pub chosen: f64,
}

/// Why a model was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChoiceReason {
    /// It is the first that is considered.
    First,
    /// Chance fell on it.
    Drawn,
    /// The key belongs to it.
    Keyed,
    /// It costs least.
    Cheapest,
    /// It answers soonest.
    Quickest,
    /// Its speed is unknown, and this request measures it.
    Untried,
    /// Its score is the highest.
    Best,
    /// The conversation has it, and no other is better by more than the margin.
    Held,
    /// No model can be reached, and this one would be chosen if all could.
    Unreachable,
}

impl ChoiceReason {
    /// Returns the word for it, as logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Drawn => "drawn",
            Self::Keyed => "keyed",
            Self::Cheapest => "cheapest",
            Self::Quickest => "quickest",
            Self::Untried => "untried",
            Self::Best => "best",
            Self::Held => "held",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for ChoiceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hashes what tells a candidate from the others, the same in every process and after every reload.
pub fn identity(model: &str, lora: Option<&str>) -> u64 {
    let of = |name: &str| hash_key(name.as_bytes());
    of(model) ^ lora.map_or(0, |lora| of(lora).rotate_left(1))
}

/// Chooses a model for a request; without candidates, a place where none is.
pub fn choose(candidates: &[Candidate<'_>], how: &Choose, input: &ChoiceInput) -> ModelChoice {
    let filter = CandidateFilter::for_all(candidates, how);
    let is_held = |index: &usize| candidates.get(*index).is_some_and(|held| filter.reaches(held));
    let held = input.held.filter(is_held);
    let kept = held.map(|index| (index, ChoiceReason::Held));
    let (index, reason, runner_up) = match how.by {
        ChooseBy::First => alone(kept.unwrap_or_else(|| first(candidates, &filter))),
        ChooseBy::Weight => alone(kept.unwrap_or_else(|| by_weight(candidates, &filter, input))),
        ChooseBy::Cost | ChooseBy::Latency | ChooseBy::Score => {
            let held = held.filter(|index| filter.admits(&candidates[*index]));
            by_measure(candidates, &filter, &ChoiceInput { held, ..*input })
        }
    };
    let reason = if filter.reachable { reason } else { ChoiceReason::Unreachable };
    ModelChoice { index, reason, runner_up }
}

/// Which candidates are considered: those within the limits that at least one meets.
struct CandidateFilter<'a> {
    how: &'a Choose,
    reachable: bool,
    quality: bool,
    limits: bool,
}

impl<'a> CandidateFilter<'a> {
    /// Applies one limit after the other, each only if a candidate is left.
    fn for_all(candidates: &[Candidate<'_>], how: &'a Choose) -> Self {
        let mut filter = Self { how, reachable: false, quality: false, limits: false };
        let passes = |filter: &Self| candidates.iter().any(|candidate| filter.admits(candidate));
        filter.reachable = passes(&Self { reachable: true, ..filter });
        filter.quality = passes(&Self { quality: true, ..filter });
        filter.limits = passes(&Self { limits: true, ..filter });
        filter
    }

    fn admits(&self, candidate: &Candidate<'_>) -> bool {
        let within =
            |limit: Option<_>, read: Option<_>| limit.zip(read).is_none_or(|(limit, read)| read <= limit);
        let reading = &candidate.reading;
        self.reaches(candidate)
            && (!self.quality || candidate.quality >= self.how.min_quality)
            && (!self.limits
                || within(self.how.max_ttft, reading.ttft)
                    && within(self.how.max_time_per_token, reading.per_token))
    }

    fn reaches(&self, candidate: &Candidate<'_>) -> bool {
        !self.reachable || candidate.reachable
    }
}

fn alone((index, reason): (usize, ChoiceReason)) -> (usize, ChoiceReason, Option<RunnerUp>) {
    (index, reason, None)
}

fn first(candidates: &[Candidate<'_>], filter: &CandidateFilter<'_>) -> (usize, ChoiceReason) {
    (candidates.iter().position(|candidate| filter.admits(candidate)).unwrap_or(0), ChoiceReason::First)
}

/// Chooses by weight: by key through [`rendezvous`], else the part of a line as long as all weights into which the
/// random number falls.
fn by_weight(
    candidates: &[Candidate<'_>],
    filter: &CandidateFilter<'_>,
    input: &ChoiceInput,
) -> (usize, ChoiceReason) {
    let admitted = |candidate: &Candidate<'_>| if filter.admits(candidate) { candidate.weight } else { 0 };
    let has_weights = candidates.iter().any(|candidate| admitted(candidate) > 0);
    let weight = |candidate: &Candidate<'_>| {
        if has_weights { admitted(candidate) } else { u32::from(filter.admits(candidate)) }
    };
    if let Some(key) = input.key {
        let entrants = candidates.iter().enumerate().map(|(index, candidate)| HashEntry {
            identity: distinct(candidates, index),
            weight: weight(candidate),
        });
        return (rendezvous(key, entrants, |_| true).unwrap_or(0), ChoiceReason::Keyed);
    }
    let total: u64 = candidates.iter().map(|candidate| u64::from(weight(candidate))).sum();
    let mut left = ((u128::from(input.random) * u128::from(total)) >> 64) as u64;
    for (index, candidate) in candidates.iter().enumerate() {
        let weight = u64::from(weight(candidate));
        if left < weight {
            return (index, ChoiceReason::Drawn);
        }
        left -= weight;
    }
    (0, ChoiceReason::Drawn)
}

/// Tells candidates apart that stand more than once in the list, by how often they stood before.
fn distinct(candidates: &[Candidate<'_>], index: usize) -> u64 {
    let identity = candidates[index].identity;
    let before = candidates[..index].iter().filter(|candidate| candidate.identity == identity).count();
    identity.wrapping_add((before as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Chooses the best by a measure, or stays with the held one when that is not worse by more than the margin.
fn by_measure<'a>(
    candidates: &[Candidate<'a>],
    filter: &CandidateFilter<'_>,
    input: &ChoiceInput,
) -> (usize, ChoiceReason, Option<RunnerUp>) {
    let admitted = || candidates.iter().enumerate().filter(|(_, candidate)| filter.admits(candidate));
    // Whoever else measures the held model is no reason to leave it.
    let unmeasured = |held: &Candidate<'a>| Candidate {
        reading: LatencySnapshot { in_flight: 0, ..held.reading },
        ..*held
    };
    let held = input.held.map(|index| (index, unmeasured(&candidates[index])));
    let considered = admitted().map(|(_, candidate)| candidate);
    let measures = Measures::among(considered, held.as_ref().map(|(_, held)| held), filter.how, input);
    let mut ranked: SmallVec<[(usize, f64); 8]> =
        admitted().map(|(index, candidate)| (index, measures.of(candidate))).collect();
    // Stable: of equals the first in the list.
    ranked.sort_by(|(one, less), (other, more)| {
        let [one, other] = [one, other].map(|index| &candidates[*index]);
        less.total_cmp(more).then_with(|| measures.is_freer(other, one).cmp(&measures.is_freer(one, other)))
    });
    let Some((index, measure)) = ranked.first().copied() else { return alone((0, ChoiceReason::First)) };
    let margin = f64::from(input.margin).max(0.0);
    let (index, measure, reason) = match held {
        Some((held, state)) if held != index && measures.gain(measures.of(&state), measure) <= margin => {
            (held, measures.of(&state), ChoiceReason::Held)
        }
        _ => (index, measure, measures.why(&candidates[index])),
    };
    let next = ranked.into_iter().find(|(other, _)| *other != index);
    let of = |measure: f64| measures.shown(measure);
    let runner_up = next.map(|(at, other)| RunnerUp { index: at, measure: of(other), chosen: of(measure) });
    (index, reason, runner_up)
}

#[cfg(test)]
mod tests;
