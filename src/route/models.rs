//! Owns which of a decision's models gets a request, and in which order its pools and the fall-backs are tried.
//!
//! Knows the state of models only through the snapshot.

use super::PlanInput;
use super::guards::GuardInput;
use super::plan::PlanTarget;
use super::trace::{RoutingReason, RoutingTrace};
use crate::balance::hash_key;
use crate::choose::{Candidate, ChoiceInput, choose, identity};
use crate::policy::{ChooseBy, Decision, ModelId, ModelRef, Policy, Reasoning, Sticky, StickyOn};
use crate::snapshot::Snapshot;
use std::time::Instant;

/// The tokens that an answer is expected to have where the client sets no limit.
const EXPECTED_TOKENS: u64 = 512;

/// Bytes of a request per token, estimated.
const BYTES_PER_TOKEN: u64 = 4;

/// The targets of a model, in the policy's order.
pub(super) fn all_routes(
    policy: &Policy,
    model: ModelId,
    lora: Option<&str>,
    reasoning: Option<Reasoning>,
) -> Vec<PlanTarget> {
    let routes = 0..policy[model].routes.len();
    routes.map(|route| PlanTarget { model, route, lora: lora.map(str::to_owned), reasoning }).collect()
}

/// Chooses one of the decision's models and lists its targets, followed by those of the fall-backs.
pub(super) fn targets(
    snapshot: &Snapshot,
    decision: &Decision,
    input: PlanInput<'_>,
    judge: &GuardInput<'_>,
    trace: &mut RoutingTrace,
) -> Vec<PlanTarget> {
    let policy = &snapshot.policy;
    let Some(chosen) = chosen(snapshot, decision, input, judge, trace) else { return Vec::new() };
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
    input: PlanInput<'_>,
    judge: &GuardInput<'_>,
    trace: &mut RoutingTrace,
) -> Option<&'a ModelRef> {
    let first = decision.models.first()?;
    if decision.models.len() == 1 {
        return Some(first);
    }
    let now = Instant::now();
    let key = decision.sticky.as_ref().and_then(|sticky| session(sticky, input));
    let key = key.map(|session| hash_key(format!("{}\0{session}", decision.name).as_bytes()));
    let held = key.and_then(|key| snapshot.models.sticky_sessions.get(key, now));
    let kept = trace.model.filter(|_| trace.reason == RoutingReason::Kept);
    let is_held = |one: &ModelRef| match &held {
        Some(name) => snapshot.policy[one.model].name == **name,
        None => kept == Some(one.model),
    };
    let held = decision.models.iter().position(is_held);
    let allowed = |one: &'a ModelRef| {
        let candidate = candidate(snapshot, one, now);
        // A model whose guards refuse the request can't be reached by it.
        Candidate { reachable: candidate.reachable && judge.is_allowed(one.model), ..candidate }
    };
    let candidates: Vec<Candidate<'_>> = decision.models.iter().map(allowed).collect();
    let choice_input = ChoiceInput {
        prompt_tokens: (input.request.body().len() as u64 / BYTES_PER_TOKEN)
            .max(judge.known.cost.tokens as u64),
        expected_tokens: expected_tokens(input),
        random: rand::random(),
        key,
        held,
        margin: decision.sticky.as_ref().map_or(Sticky::MARGIN, |sticky| sticky.margin).fraction(),
    };
    let choice = choose(&candidates, &decision.choose, &choice_input);
    let one = decision.models.get(choice.index)?;
    trace.chosen = Some((decision.choose.by.as_str(), choice.reason.as_str()));
    if let (Some(key), Some(sticky)) = (key, &decision.sticky)
        && decision.choose.by != ChooseBy::First
        && !input.dry_run
    {
        snapshot.models.sticky_sessions.insert(
            key,
            snapshot.policy[one.model].name.as_str(),
            now,
            sticky.ttl,
        );
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
        reading: snapshot.models.latency(one.model).snapshot(now),
        reachable: model.routes.iter().any(|route| snapshot.pool(route.pool).available(now) > 0),
    }
}

fn expected_tokens(input: PlanInput<'_>) -> u64 {
    let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    let asked = limits.into_iter().find_map(|name| input.request.field(name)?.parse::<u64>().ok());
    asked.map_or(EXPECTED_TOKENS, |most| most.min(EXPECTED_TOKENS))
}

/// What identifies the session of a request.
fn session(sticky: &Sticky, input: PlanInput<'_>) -> Option<String> {
    match &sticky.on {
        StickyOn::Header(name) => {
            input.sent.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.clone())
        }
        StickyOn::Field(name) => input.request.field(name).map(std::borrow::Cow::into_owned),
        StickyOn::Identity => input.principal.map(|principal| principal.user.clone()),
        StickyOn::Conversation => Some(input.request.opening()),
    }
}
