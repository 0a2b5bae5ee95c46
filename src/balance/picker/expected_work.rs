//! Owns the default choice: the endpoint where the request's first token has the least work before it.
//! Refuses to know where the figures come from.
//!
//! Work is counted in tokens to compute. A request costs an endpoint the tokens of its prompt that are not cached there;
//! before it come the prompts that are still computed, those that wait in the engine's queue, and the share of each step
//! that running requests take. So an endpoint that has the prompt's beginning is preferred until waiting there costs more
//! than computing it elsewhere. That is the cost of NVIDIA Dynamo's KV router (prefill blocks to compute and blocks in
//! use) with an engine's own queue, and with two terms that keep a prompt that many send from making one endpoint do the
//! work of all, where no request waits in a queue:
//!
//! ```text
//! UNCACHED · uncached + (prefill + WAITING · waiting + RUNNING · running + RECENT · recent) / weight
//!     + prompt · UNFAIR · max(0, given / (fair given + SMALL) - FAIR_SHARE)
//!     + prompt · COMMON · max(0, alike / (fair requests + FEW) - COMMON_SHARE)
//! ```
//!
//! The first goes by all work that an endpoint was given. The second goes by those of its requests that begin as this one
//! does: where they alone are more than its share of all requests, others had better have that beginning too. That is
//! consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2018: no more than 1 + ε times the mean) for
//! one prompt; Preble (Srivatsa et al., 2024) too copies a prefix to more engines that is asked for too often. How many
//! begin alike is taken from the last of them: as large a part as this one's new tokens are of all that were new since.
//!
//! The factors are those that did best in `benches/picking`, of those that were tried.

use super::candidates::{
    Candidates, ChoiceMargin, ChosenEndpoint, EndpointView, EngineLoad, PickRequest, Standing,
};
use crate::balance::prefix_table::MatchHints;
use crate::balance::token_load::RequestWork;
use crate::openai::SHORT_BLOCK;
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

/// From what multiple of an endpoint's fair share of all requests on those that begin alike are too many for it.
const COMMON_SHARE: f64 = 1.1;

/// What a whole fair share of such requests too much costs, as a multiple of the request's prompt.
const COMMON: f64 = 50.0;

/// The requests that an endpoint may have whatever the others have.
const FEW: f64 = 1.5;

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
    let (mut reached, mut hints) = (SmallVec::<[EndpointMatch<'_>; 16]>::new(), MatchHints::default());
    let blocks = request.blocks();
    // Apart from what takes locks, so that the processor looks into many tables at once.
    for (place, view) in candidates.iter().enumerate() {
        let Some(view) = view else { continue };
        let matched = view.matched_by(blocks, &mut hints);
        let since = view.tokens_since(blocks, matched);
        reached.push(EndpointMatch { place, view, uncached: request.uncached(matched), since });
    }
    let endpoints: SmallVec<[EndpointWork; 16]> = reached.iter().map(EndpointWork::read).collect();
    let sum = |of: fn(&EndpointWork) -> f64| endpoints.iter().map(of).sum::<f64>();
    let weight = sum(|one| one.weight).max(1.0);
    let fair = FairShare { given: sum(|one| one.given) / weight, requests: sum(|one| one.requests) / weight };
    let prompt = request.prompt.map_or(0.0, |prompt| f64::from(prompt.tokens()));
    // Where requests wait, their queues say who has too much.
    let unfair = if sum(|one| one.load.waiting) > 0.0 { 0.0 } else { prompt };
    endpoints.iter().map(|one| (one.place, one.cost() + unfair * one.excess(fair))).collect()
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

/// What one candidate has of the prompt.
struct EndpointMatch<'a> {
    place: usize,
    view: EndpointView<'a>,
    uncached: u32,
    /// Tokens that were new to it since it last got a prompt that begins alike; `None` where it never did.
    since: Option<u64>,
}

/// What an endpoint of weight 1 would have if all had the same.
#[derive(Clone, Copy)]
struct FairShare {
    given: f64,
    requests: f64,
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
    /// This process's requests in flight.
    requests: f64,
    /// About how many of them begin as this one does, as far as it has that beginning.
    alike: f64,
}

impl EndpointWork {
    fn read(one: &EndpointMatch<'_>) -> Self {
        let (view, recent, requests) = (&one.view, one.view.recent_work(), f64::from(one.view.in_flight()));
        let uncached = f64::from(one.uncached);
        let new = uncached.max(SHORT_BLOCK.into());
        Self {
            place: one.place,
            // One that gives no tokens at the moment counts half.
            weight: f64::from(view.weight()) * if view.is_stalled() { 0.5 } else { 1.0 },
            load: view.engine_load(),
            uncached,
            prefill: view.prefill_tokens(),
            recent,
            given: recent + RequestWork::CONTEXT * view.context_tokens(),
            requests,
            alike: one.since.map_or(0.0, |since| requests * new / (new + since as f64)),
        }
    }

    /// What comes before the request's first token.
    fn cost(&self) -> f64 {
        let before = work_before(self.prefill, self.load) + RECENT * self.recent;
        UNCACHED * self.uncached + before / self.weight
    }

    /// How much more than a fair share it has, as a multiple of a prompt.
    fn excess(&self, fair: FairShare) -> f64 {
        let given = self.given / (self.weight * fair.given + SMALL);
        let alike = self.alike / (self.weight * fair.requests + FEW);
        UNFAIR * (given - FAIR_SHARE).max(0.0) + COMMON * (alike - COMMON_SHARE).max(0.0)
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
