//! Owns the default choice: the endpoint where the request's first token has the least work before it.
//! Refuses to know where the figures come from.
//!
//! Work is counted in tokens to compute. A request costs an endpoint the tokens of its prompt that are not cached there;
//! before it come the prompts that are still computed, those that wait in the engine's queue, and the share of each step
//! that running requests take. So an endpoint that has the prompt's beginning is preferred until waiting there costs more
//! than computing it elsewhere. That is the cost of NVIDIA Dynamo's KV router (prefill blocks to compute and blocks in
//! use) with an engine's own queue, and with a term that keeps a prompt that many send from making one endpoint do the
//! work of all. The factors are those that did best in `benches/picking`, of those that were tried.

use super::candidates::{
    Candidates, ChoiceMargin, ChosenEndpoint, EndpointView, EngineLoad, PickRequest, Standing,
};
use crate::balance::prefix_table::MatchHints;
use crate::balance::token_load::RequestWork;
use rand::Rng;
use smallvec::SmallVec;

/// What a token costs that is computed though another endpoint has it: besides the wait it takes time from all others,
/// and room in the cache from what they share.
const UNCACHED: f64 = 4.0;

/// What one running request costs the next: the time that the engine's steps take longer for it.
const RUNNING: f64 = 50.0;

/// What one request in the engine's queue costs those behind it.
const WAITING: f64 = 500.0;

/// What work costs that was given lately, as a part of work to come: of endpoints that are equal otherwise, the one that
/// had the least is next, also where each request is over before the following comes.
const RECENT: f64 = 0.1;

/// From what multiple of its fair share of the pool's work on an endpoint has too much to do.
const FAIR_SHARE: f64 = 1.25;

/// What a whole fair share too much costs, as a multiple of the request's prompt.
const UNFAIR: f64 = 20.0;

/// The work that an endpoint may have whatever the others have, in tokens to compute: about half a second's. Where hardly
/// anything is asked for, all of it may go to one endpoint that has it cached.
const SMALL: f64 = 8_000.0;

/// How far costs may differ and still be equal, as a part of the least: there chance decides, so that several gateways
/// that see the same do not all choose the same.
const MARGIN: f64 = 0.02;

/// Each candidate's place and cost.
pub(super) type Costs = SmallVec<[(usize, f64); 16]>;

/// Picks an endpoint by expected work.
pub(super) fn pick(
    request: &PickRequest<'_>,
    candidates: &Candidates<'_>,
    rng: &mut impl Rng,
) -> Option<ChosenEndpoint> {
    least(&costs(request, candidates), rng)
}

/// The cost of every candidate, in tokens to compute.
pub(super) fn costs(request: &PickRequest<'_>, candidates: &Candidates<'_>) -> Costs {
    let (mut endpoints, mut hints) = (SmallVec::<[EndpointWork; 16]>::new(), MatchHints::default());
    let blocks = request.blocks();
    for (place, view) in candidates.iter().enumerate() {
        let Some(view) = view else { continue };
        let matched = view.matched_by(blocks, &mut hints);
        endpoints.push(EndpointWork::read(place, &view, request.uncached(matched)));
    }
    let sum = |of: fn(&EndpointWork) -> f64| endpoints.iter().map(of).sum::<f64>();
    let fair = sum(|one| one.given) / sum(|one| one.weight).max(1.0);
    let prompt = request.prompt.map_or(0.0, |prompt| f64::from(prompt.tokens()));
    // Where requests wait, their queues say who has too much.
    let unfair = if sum(|one| one.load.waiting) > 0.0 { 0.0 } else { UNFAIR * prompt };
    endpoints.iter().map(|one| (one.place, one.cost(fair, unfair))).collect()
}

/// What comes before a request's first token on an endpoint, beside its own prompt: in tokens to compute.
fn work_before(prefill: f64, load: EngineLoad) -> f64 {
    prefill + WAITING * load.waiting + RUNNING * load.running
}

impl EndpointView<'_> {
    /// What comes before a request's first token, where so much of its prompt is to be computed: in tokens to compute.
    pub(in super::super) fn work_to_first_token(&self, uncached: u32) -> f64 {
        work_before(self.prefill_tokens(), self.engine_load()) + f64::from(uncached)
    }
}

/// One candidate, in tokens to compute.
struct EndpointWork {
    place: usize,
    weight: f64,
    load: EngineLoad,
    uncached: f64,
    /// Prompts that are still computed for this process.
    prefill: f64,
    /// The work that this process gave it in the last seconds.
    recent: f64,
    /// The same with what requests in flight keep costing.
    given: f64,
}

impl EndpointWork {
    fn read(place: usize, view: &EndpointView<'_>, uncached: u32) -> Self {
        let recent = view.recent_work();
        Self {
            place,
            // One that gives no tokens at the moment counts half.
            weight: f64::from(view.weight()) * if view.is_stalled() { 0.5 } else { 1.0 },
            load: view.engine_load(),
            uncached: f64::from(uncached),
            prefill: view.prefill_tokens(),
            recent,
            given: recent + RequestWork::CONTEXT * view.context_tokens(),
        }
    }

    /// What comes before the request's first token, where `fair` is the fair share of an endpoint of weight 1 and `unfair`
    /// what one fair share too much costs.
    fn cost(&self, fair: f64, unfair: f64) -> f64 {
        let before = work_before(self.prefill, self.load) + RECENT * self.recent;
        let share = self.given / (self.weight * fair + SMALL);
        UNCACHED * self.uncached + before / self.weight + unfair * (share - FAIR_SHARE).max(0.0)
    }
}

/// Chooses the least; of those that are about equal each is as likely.
fn least(costs: &Costs, rng: &mut impl Rng) -> Option<ChosenEndpoint> {
    let least = costs.iter().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min);
    let equals = || costs.iter().filter(|(_, cost)| *cost <= least * (1.0 + MARGIN) + 1.0);
    let count = equals().count();
    if count == 0 {
        return None;
    }
    let &(place, chosen) = equals().nth(rng.random_range(0..count))?;
    let others = costs.iter().filter(|(other, _)| *other != place).map(|(_, cost)| *cost);
    let margin =
        ChoiceMargin { chosen: Standing::Cost(chosen), next: others.reduce(f64::min).map(Standing::Cost) };
    Some(ChosenEndpoint { place, margin: Some(margin), is_cold: false })
}
