//! Owns the choice by a weighted sum of scores, as the Gateway API inference extension's scheduler makes it.
//! Refuses to know where the figures come from.
//!
//! Scores are 0 to 1, the highest sum is chosen, equals at random. The formulas are those of the extension's plugins
//! (llm-d-router, `pkg/epp/framework/plugins/scheduling/scorer`); where an engine says nothing, or nothing new, what this
//! process has in flight there stands in for its queue.

use super::candidates::{
    Candidates, ChoiceMargin, ChosenEndpoint, EndpointView, EngineLoad, PickRequest, Standing,
};
use crate::balance::prefix_table::{MatchHints, tokens_of};
use crate::policy::{Scorer, Scorers};
use rand::Rng;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens in flight at which an endpoint's token load scores 0.
const FULL_TOKEN_LOAD: f64 = 4_194_304.0;

/// Waiting requests at which an endpoint scores 0 by its absolute load.
const FULL_QUEUE: f64 = 128.0;

/// The weights, and the turn of cold prompts.
#[derive(Debug)]
pub(in crate::balance) struct ScoredPicker {
    scorers: Scorers,
    /// Counts the prompts of which no endpoint had anything cached.
    cold: AtomicU64,
}

/// One candidate with what is scored.
struct ScoredEndpoint<'a> {
    place: usize,
    view: EndpointView<'a>,
    load: EngineLoad,
    queue: f64,
    /// Leading blocks of the prompt that it probably has cached.
    matched: usize,
    score: f64,
}

/// What the candidates are scored against.
struct CandidateFigures {
    queues: Extremes,
    running: Extremes,
    /// The most requests that one has in flight for this process.
    most_active: u32,
    /// No candidate has any of the prompt cached.
    is_cold: bool,
    /// In which turns the candidates last got such a prompt.
    turns: SmallVec<[u64; 16]>,
    /// Tokens of the prompt's blocks.
    tokens: u32,
}

type ScoredEndpoints<'a> = SmallVec<[ScoredEndpoint<'a>; 16]>;

impl ScoredPicker {
    pub(super) fn new(scorers: Scorers) -> Self {
        Self { scorers, cold: AtomicU64::new(0) }
    }

    pub(super) fn reads_prompt(&self) -> bool {
        [Scorer::Prefix, Scorer::NoHitLru, Scorer::TokenLoad]
            .iter()
            .any(|one| self.scorers.weight(*one) > 0.0)
    }

    pub(super) fn pick(
        &self,
        request: &PickRequest<'_>,
        candidates: &Candidates<'_>,
        rng: &mut impl Rng,
    ) -> Option<ChosenEndpoint> {
        let endpoints = self.score(request, candidates);
        let best = &endpoints[highest(&endpoints, rng)?];
        let is_cold = self.scorers.weight(Scorer::NoHitLru) > 0.0
            && endpoints.iter().all(|endpoint| endpoint.matched == 0);
        let others = endpoints.iter().filter(|other| other.place != best.place).map(|other| other.score);
        let margin = ChoiceMargin {
            chosen: Standing::Score(best.score),
            next: others.reduce(f64::max).map(Standing::Score),
        };
        Some(ChosenEndpoint { place: best.place, margin: Some(margin), is_cold })
    }

    /// Notes that an endpoint gets a prompt of which no endpoint had anything.
    pub(super) fn note_cold(&self, view: EndpointView<'_>) {
        view.note_cold(self.cold.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// The sum of scores of every candidate, with its place.
    pub(super) fn sums(
        &self,
        request: &PickRequest<'_>,
        candidates: &Candidates<'_>,
    ) -> SmallVec<[(usize, f64); 16]> {
        self.score(request, candidates).iter().map(|endpoint| (endpoint.place, endpoint.score)).collect()
    }

    fn score<'a>(&self, request: &PickRequest<'_>, candidates: &Candidates<'a>) -> ScoredEndpoints<'a> {
        let (mut endpoints, mut hints) = (ScoredEndpoints::new(), MatchHints::default());
        let blocks = request.blocks().filter(|_| self.reads_prompt());
        for (place, view) in candidates.iter().enumerate() {
            let Some(view) = view else { continue };
            let load = view.engine_load();
            let matched = view.matched_by(blocks, &mut hints);
            let queue = if load.is_reported { load.waiting } else { f64::from(view.in_flight()) };
            endpoints.push(ScoredEndpoint { place, view, load, queue, matched, score: 0.0 });
        }
        let figures = CandidateFigures::of(&endpoints, request);
        for endpoint in &mut endpoints {
            let scores = self.scorers.iter().map(|(scorer, weight)| {
                weight * endpoint.score_by(scorer, &figures, request).clamp(0.0, 1.0)
            });
            let sum: f64 = scores.sum();
            // One that gives no tokens at the moment counts half.
            endpoint.score = if endpoint.view.is_stalled() { 0.5 * sum } else { sum };
        }
        endpoints
    }
}

impl CandidateFigures {
    fn of(endpoints: &ScoredEndpoints<'_>, request: &PickRequest<'_>) -> Self {
        Self {
            queues: Extremes::of(endpoints.iter().map(|one| one.queue)),
            running: Extremes::of(endpoints.iter().map(|one| one.load.running)),
            most_active: endpoints.iter().map(|one| one.view.in_flight()).max().unwrap_or(0),
            is_cold: endpoints.iter().all(|one| one.matched == 0),
            turns: endpoints.iter().map(|one| one.view.last_cold()).collect(),
            tokens: request.prompt.map_or(0, |prompt| tokens_of(prompt.prefix().len())),
        }
    }
}

impl ScoredEndpoint<'_> {
    fn score_by(&self, scorer: Scorer, all: &CandidateFigures, request: &PickRequest<'_>) -> f64 {
        let view = &self.view;
        match scorer {
            Scorer::Queue => all.queues.score(self.queue),
            Scorer::Running => all.running.score(self.load.running),
            Scorer::KvCache => 1.0 - self.load.kv_usage,
            Scorer::Prefix => f64::from(tokens_of(self.matched)) / f64::from(all.tokens.max(1)),
            Scorer::Lora => lora(view, request),
            Scorer::LoadAware => 0.5 * (1.0 - self.queue.min(FULL_QUEUE) / FULL_QUEUE),
            Scorer::ActiveRequest if view.in_flight() == 0 => 1.0,
            Scorer::ActiveRequest => {
                let fewer = all.most_active - view.in_flight().min(all.most_active);
                f64::from(fewer) / f64::from(all.most_active.max(1))
            }
            Scorer::TokenLoad => 1.0 - (view.prefill_tokens() / FULL_TOKEN_LOAD).min(1.0),
            Scorer::NoHitLru if all.is_cold => least_recent(view.last_cold(), &all.turns),
            Scorer::NoHitLru => 0.5,
        }
    }
}

/// The least and the greatest of a figure among the candidates.
#[derive(Clone, Copy)]
struct Extremes {
    least: f64,
    most: f64,
}

impl Extremes {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let none = Self { least: f64::INFINITY, most: f64::NEG_INFINITY };
        values.fold(none, |all, value| Self { least: all.least.min(value), most: all.most.max(value) })
    }

    /// 1 for the least, 0 for the greatest; 1 for all where they are equal.
    fn score(self, value: f64) -> f64 {
        if self.most > self.least { (self.most - value) / (self.most - self.least) } else { 1.0 }
    }
}

fn lora(view: &EndpointView<'_>, request: &PickRequest<'_>) -> f64 {
    let Some(adapter) = request.adapter else { return 0.0 };
    let Some(engine) = view.engine() else { return 0.0 };
    let Some(adapters) = &engine.adapters else { return 0.0 };
    let is_in = |names: &[Box<str>]| names.iter().any(|name| **name == *adapter);
    let used = adapters.running.len() + adapters.waiting.len();
    if is_in(&adapters.running) {
        1.0
    } else if used < adapters.max as usize {
        0.8
    } else if is_in(&adapters.waiting) {
        0.6
    } else {
        0.0
    }
}

/// 1 for the endpoint whose last cold prompt is the longest ago, 0 for the one that had the last.
fn least_recent(turn: u64, turns: &[u64]) -> f64 {
    let later = turns.iter().filter(|other| **other > turn).count();
    if turns.len() > 1 { later as f64 / (turns.len() - 1) as f64 } else { 1.0 }
}

/// Chooses the highest score; of equals each is as likely.
fn highest(endpoints: &ScoredEndpoints<'_>, rng: &mut impl Rng) -> Option<usize> {
    let (mut best, mut equals): (Option<usize>, u32) = (None, 1);
    for (at, endpoint) in endpoints.iter().enumerate() {
        match best.map(|best| endpoint.score.total_cmp(&endpoints[best].score)) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => {
                equals += 1;
                if rng.random_range(0..equals) == 0 {
                    best = Some(at);
                }
            }
            Some(std::cmp::Ordering::Greater) | None => (best, equals) = (Some(at), 1),
        }
    }
    best
}
