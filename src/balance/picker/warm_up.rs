//! Owns what an endpoint that has just joined gets of requests that go by cached prompts. Pure.
//! Refuses to know how an endpoint is chosen among the rest.
//!
//! A new replica has nothing to do and nothing cached. By load alone every prompt that no one has would go there at once; by
//! prefixes alone none of the others ever would. So for a minute it gets a part of both, as SMG's warm-up has it
//! (sgl-model-gateway 1.13). Where the others have requests waiting, load decides as usual.

use super::candidates::{Candidates, EndpointView, PickRequest};
use rand::Rng;
use smallvec::SmallVec;

/// Of the prompts that no other endpoint has anything of, the share that a new one may get.
const MISSES: f64 = 0.25;

/// Of the prompts that another endpoint has the beginning of, the share that a new one gets.
const HITS: f64 = 0.125;

/// A new endpoint gets no more hits once it was sent half of the tokens that the others were, in the middle, or so many.
const FILLED: f64 = 0.5;
const FILLED_TOKENS: u64 = 16_384;

/// Leaves the new endpoints or the others out for one request, where there are both.
pub(super) fn share_out<'a>(
    request: &PickRequest<'_>,
    candidates: &Candidates<'a>,
    rng: &mut impl Rng,
) -> Candidates<'a> {
    let (mut fresh, mut settled) = (false, SmallVec::<[EndpointView<'a>; 16]>::new());
    for view in candidates.iter().flatten() {
        if view.is_new() { fresh = true } else { settled.push(view) }
    }
    let is_idle = |view: &EndpointView<'_>| view.engine_load().waiting == 0.0;
    if !fresh || !settled.iter().any(is_idle) {
        return *candidates;
    }
    let blocks = request.blocks();
    if settled.iter().all(|view| view.matched(blocks) == 0) {
        return if rng.random_bool(MISSES) { *candidates } else { candidates.settled() };
    }
    let mut sent: SmallVec<[u64; 16]> = settled.iter().map(EndpointView::sent_tokens).collect();
    sent.sort_unstable();
    let enough = (sent[sent.len() / 2] as f64 * FILLED).max(FILLED_TOKENS as f64);
    let filling = candidates.new_with_less_than(enough as u64);
    let is_filling = rng.random_bool(HITS) && filling.iter().flatten().next().is_some();
    if is_filling { filling } else { candidates.settled() }
}
