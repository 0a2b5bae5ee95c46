//! Owns which of a decision's models gets a request, and in which order its pools and the fall-backs are tried.
//!
//! Knows how models are doing only through the snapshot's readings.

use super::{Asking, Story, Target};
use crate::balance::hash_key;
use crate::choose::{Candidate, ChoiceInput, choose, identity};
use crate::policy::{ChooseBy, Decision, ModelId, ModelRef, Policy, Reasoning, Sticky, StickyOn};
use crate::signals::SignalEvaluation;
use crate::snapshot::Snapshot;
use std::time::Instant;

/// How many tokens an answer is taken to have where the client sets no limit.
const EXPECTED_TOKENS: u64 = 512;

/// How many bytes of a request are taken for a token.
const BYTES_PER_TOKEN: u64 = 4;

/// The ways that a model can be reached, in the policy's order.
pub(super) fn all_routes(
    policy: &Policy,
    model: ModelId,
    lora: Option<&str>,
    reasoning: Option<Reasoning>,
) -> Vec<Target> {
    let routes = 0..policy[model].routes.len();
    routes.map(|route| Target { model, route, lora: lora.map(str::to_owned), reasoning }).collect()
}

/// Chooses a model for a decided request; the decision's fall-backs follow its own pools.
pub(super) fn targets(
    snapshot: &Snapshot,
    decision: &Decision,
    asking: Asking<'_>,
    known: &SignalEvaluation,
    story: &mut Story,
) -> Vec<Target> {
    let policy = &snapshot.policy;
    let Some(chosen) = chosen(snapshot, decision, asking, known, story) else { return Vec::new() };
    let reasoning = chosen.reasoning.or(decision.plugins.reasoning);
    let mut targets = all_routes(policy, chosen.model, chosen.lora.as_deref(), reasoning);
    for model in decision.fallback.iter().filter(|model| **model != chosen.model) {
        targets.extend(all_routes(policy, *model, None, decision.plugins.reasoning));
    }
    targets
}

fn chosen<'a>(
    snapshot: &Snapshot,
    decision: &'a Decision,
    asking: Asking<'_>,
    known: &SignalEvaluation,
    story: &mut Story,
) -> Option<&'a ModelRef> {
    let first = decision.models.first()?;
    if decision.models.len() == 1 {
        return Some(first);
    }
    let now = Instant::now();
    let key = decision.sticky.as_ref().and_then(|sticky| session(sticky, asking));
    let key = key.map(|session| hash_key(format!("{}\0{session}", decision.name).as_bytes()));
    let held = key.and_then(|key| snapshot.conversations.held(key, now));
    let held = held.and_then(|name| {
        let is_held = |one: &ModelRef| snapshot.policy[one.model].name == *name;
        decision.models.iter().position(is_held)
    });
    let candidates: Vec<Candidate<'_>> =
        decision.models.iter().map(|one| candidate(snapshot, one, now)).collect();
    let input = ChoiceInput {
        prompt_tokens: (asking.request.body().len() as u64 / BYTES_PER_TOKEN).max(known.cost.tokens as u64),
        expected_tokens: expected_tokens(asking),
        random: rand::random(),
        key,
        held,
        margin: decision.sticky.as_ref().map_or(0.0, |sticky| sticky.margin.fraction()),
    };
    let choice = choose(&candidates, &decision.choose, &input);
    let one = decision.models.get(choice.index)?;
    story.chosen = Some((decision.choose.by.as_str(), choice.reason.as_str()));
    if let (Some(key), Some(sticky)) = (key, &decision.sticky)
        && decision.choose.by != ChooseBy::First
    {
        snapshot.conversations.hold(key, &snapshot.policy[one.model].name, now, sticky.ttl);
    }
    Some(one)
}

fn candidate<'a>(snapshot: &'a Snapshot, one: &ModelRef, now: Instant) -> Candidate<'a> {
    let model = &snapshot.policy[one.model];
    let members = || model.routes.iter().flat_map(|route| snapshot.pool(route.pool).members());
    Candidate {
        model: one.model,
        identity: identity(&model.name, one.lora.as_deref()),
        in_flight: members().map(|member| member.endpoint.in_flight()).sum(),
        capacity: members().count() as u32,
        weight: one.weight,
        price: model.price.as_ref(),
        quality: model.quality,
        reading: snapshot.pace(one.model).reading(now),
        reachable: model.routes.iter().any(|route| snapshot.pool(route.pool).available(now) > 0),
    }
}

fn expected_tokens(asking: Asking<'_>) -> u64 {
    let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    let asked = limits.into_iter().find_map(|name| asking.request.field(name)?.parse::<u64>().ok());
    asked.map_or(EXPECTED_TOKENS, |most| most.min(EXPECTED_TOKENS))
}

/// What the requests of a conversation have in common.
fn session(sticky: &Sticky, asking: Asking<'_>) -> Option<String> {
    match &sticky.on {
        StickyOn::Header(name) => {
            asking.sent.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.clone())
        }
        StickyOn::Field(name) => asking.request.field(name).map(std::borrow::Cow::into_owned),
        StickyOn::Identity => asking.principal.map(|principal| principal.user.clone()),
        StickyOn::Conversation => Some(asking.request.opening()),
    }
}
