//! Owns which of a decision's models gets a request, and in which order its pools and the fall-backs are tried.
//!
//! Knows the state of models only through the snapshot.

use super::PlanInput;
use super::endpoint::{best_replica, keeps_prompt};
use super::guards::GuardInput;
use super::plan::PlanTarget;
use super::trace::{ChosenModel, RoutingReason, RoutingTrace, RunnerUpModel};
use crate::balance::{PickPrompt, ReplicaForecast, hash_key};
use crate::choose::{Candidate, ChoiceInput, choose, identity};
use crate::classify::read_beside;
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
    let target = |route| PlanTarget {
        model,
        route,
        lora: lora.map(str::to_owned),
        reasoning,
        replica: None,
        via: None,
    };
    routes.map(target).collect()
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
    let (chosen, pair) = match &*decision.models {
        [] => return Vec::new(),
        [only] => (only, None),
        models => {
            let choice = chosen(snapshot, decision, input, judge, trace);
            (&models[choice.index], choice.pair)
        }
    };
    let reasoning = chosen.reasoning.or(decision.plugins.reasoning);
    let mut targets = all_routes(policy, chosen.model, chosen.lora.as_deref(), reasoning);
    if let Some((route, replica)) = pair {
        targets[route].replica = Some(replica);
    }
    for model in decision.fallback.iter().filter(|model| **model != chosen.model) {
        let own = decision.models.iter().find(|one| one.model == *model);
        // A fall-back is told what the chosen one was told, in the words of its own family.
        let reasoning = own.and_then(|own| own.reasoning).or(reasoning);
        targets.extend(all_routes(policy, *model, None, reasoning));
    }
    targets
}

/// One of a decision's models, by its place among them, with the replica that it was chosen with.
struct ChosenPair {
    index: usize,
    pair: Option<(usize, ReplicaForecast)>,
}

/// Chooses among several models, together with their replicas where these are told apart.
fn chosen(
    snapshot: &Snapshot,
    decision: &Decision,
    input: PlanInput<'_>,
    judge: &GuardInput<'_>,
    trace: &mut RoutingTrace,
) -> ChosenPair {
    let now = Instant::now();
    let key = decision.sticky.as_ref().and_then(|sticky| session(sticky, input));
    let key = key.map(|session| hash_key(format!("{}\0{session}", decision.name).as_bytes()));
    let pairs = replicas(snapshot, decision, input, now);
    let allowed = |(one, pair): (&ModelRef, &Option<(usize, ReplicaForecast)>)| {
        let replica = pair.map(|(_, replica)| replica);
        let candidate = Candidate { replica, ..candidate(snapshot, one, now) };
        // A model whose guards refuse the request can't be reached by it.
        Candidate { reachable: candidate.reachable && judge.is_allowed(one.model), ..candidate }
    };
    let candidates: Vec<_> = decision.models.iter().zip(&pairs).map(allowed).collect();
    let choice_input = ChoiceInput {
        prompt_tokens: (input.request.body().len() as u64 / BYTES_PER_TOKEN)
            .max(judge.known.cost.tokens as u64),
        expected_tokens: expected_tokens(input),
        random: rand::random(),
        key,
        held: held(snapshot, decision, key, trace, now),
        margin: decision.sticky.as_ref().map_or(Sticky::MARGIN, |sticky| sticky.margin).fraction(),
    };
    let choice = choose(&candidates, &decision.choose, &choice_input);
    let name = |index: usize| &*snapshot.policy[decision.models[index].model].name;
    trace.chosen = Some(ChosenModel {
        by: decision.choose.by.as_str(),
        reason: choice.reason.as_str(),
        runner_up: choice.runner_up.map(|other| RunnerUpModel {
            name: name(other.index).to_owned(),
            endpoint: candidates[other.index].replica.map(|replica| replica.endpoint),
            by: decision.choose.by,
            measure: other.measure,
            chosen: other.chosen,
        }),
    });
    if let (Some(key), Some(sticky)) = (key, &decision.sticky)
        && decision.choose.by != ChooseBy::First
        && !input.dry_run
    {
        snapshot.models.sticky_sessions.insert(key, name(choice.index), now, sticky.ttl);
    }
    ChosenPair { index: choice.index, pair: pairs[choice.index] }
}

/// The place of the model that the session or the conversation has.
fn held(
    snapshot: &Snapshot,
    decision: &Decision,
    key: Option<u64>,
    trace: &RoutingTrace,
    now: Instant,
) -> Option<usize> {
    let held = key.and_then(|key| snapshot.models.sticky_sessions.get(key, now));
    let kept = trace.model.filter(|_| trace.reason == RoutingReason::Kept);
    let is_held = |one: &ModelRef| match &held {
        Some(name) => snapshot.policy[one.model].name == **name,
        None => kept == Some(one.model),
    };
    decision.models.iter().position(is_held)
}

/// The replica of each of the decision's models that would get the request, where it matters and is known.
fn replicas(
    snapshot: &Snapshot,
    decision: &Decision,
    input: PlanInput<'_>,
    now: Instant,
) -> Vec<Option<(usize, ReplicaForecast)>> {
    let is_measured = matches!(decision.choose.by, ChooseBy::Cost | ChooseBy::Latency | ChooseBy::Score);
    if !is_measured || !keeps_prompt(input.request) {
        return vec![None; decision.models.len()];
    }
    let prompt = PickPrompt::new(input.request);
    read_beside(input.request.body().len(), || prompt.tokens());
    decision.models.iter().map(|one| best_replica(snapshot, one, &prompt, now)).collect()
}

fn candidate<'a>(snapshot: &'a Snapshot, one: &ModelRef, now: Instant) -> Candidate<'a> {
    let model = &snapshot.policy[one.model];
    let members = || model.routes.iter().flat_map(|route| snapshot.pool(route.pool).members());
    Candidate {
        model: one.model,
        identity: identity(&model.name, one.lora.as_deref()),
        in_flight: members().map(|member| member.endpoint.in_flight()).sum(),
        capacity: members().count() as u32,
        replica: None,
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
    match &sticky.key {
        StickyOn::Header(name) => {
            input.sent.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.clone())
        }
        StickyOn::Field(name) => input.request.field(name).map(std::borrow::Cow::into_owned),
        StickyOn::Identity => input.principal.map(|principal| principal.user.clone()),
        StickyOn::Conversation => Some(input.request.opening()),
    }
}
