//! Owns what is known before a request is planned of where it may go, and whether that is worth a plan.
//!
//! Knows nothing of what waits: the gates of the pools do.

use super::decision::RequestedModel;
use super::plan::{Plan, PlanTarget};
use crate::balance::{AdmissionGate, AdmissionRefusal, GateRequest};
use crate::openai::{ChatRequest, ShedReason};
use crate::policy::{AppliesTo, Decision, ModelId, PoolId, PriorityInput};
use crate::snapshot::Snapshot;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Instant;

/// Where a client names what its request is for: llm-d's header, and the Gateway API's before it.
pub const OBJECTIVE_HEADERS: [&str; 2] = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];

/// Where a client names whom its request is counted with.
pub const FAIRNESS_HEADERS: [&str; 2] = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];

/// Finds a pool for want of whose room a request is refused whatever comes of its plan: all pools that it may go to are
/// saturated, and its priority is negative whatever decides.
///
/// Nothing is found where a decision may answer it without a pool.
pub fn find_saturated_pool(
    snapshot: &Snapshot,
    request: &ChatRequest,
    client: PriorityInput<'_>,
    now: Instant,
) -> Option<PoolId> {
    let policy = &snapshot.policy;
    let admission = policy.admission.as_ref()?;
    let requested = RequestedModel::find(policy, request).ok()?;
    let (decisions, own): (Vec<&Decision>, Option<ModelId>) = match requested {
        RequestedModel::Named { model, .. } | RequestedModel::Fixed(model) => {
            let all = policy.recipes[0].decisions.iter();
            (all.filter(|decision| decision.when.applies_to == AppliesTo::All).collect(), Some(model))
        }
        RequestedModel::Virtual(recipe) => (recipe.decisions.iter().collect(), recipe.default_model),
    };
    let is_named = requested.model().is_some();
    let routed = decisions.iter().filter(|_| !is_named);
    let models = routed
        .flat_map(|decision| {
            decision.models.iter().map(|one| one.model).chain(decision.fallback.iter().copied())
        })
        .chain(own);
    let mut first = None;
    let mut priority = None;
    for model in models {
        for route in &policy[model].routes {
            snapshot.pool(route.pool).gate().filter(|gate| gate.sheds(now))?;
            first.get_or_insert(route.pool);
        }
        let given = decisions.iter().map(|decision| decision.plugins.priority).chain([None]);
        let own = given.map(|decision| {
            admission.priority(PriorityInput { decision, model: policy[model].priority, ..client })
        });
        priority = priority.max(own.max());
    }
    let needs_no_pool =
        |decision: &&Decision| decision.plugins.respond.is_some() || decision.plugins.cache.is_some();
    let is_certain = priority.is_some_and(|highest| highest < 0) && !decisions.iter().any(needs_no_pool);
    first.filter(|_| is_certain)
}

/// What a planned request's admission goes by.
#[derive(Clone, Copy, Debug)]
pub struct GateInput<'a> {
    /// The client, as far as its priority goes by it.
    pub client: PriorityInput<'a>,
    /// Whom the request is counted with, hashed.
    pub tenant: u64,
    /// How long its body is.
    pub bytes: usize,
}

/// The gate that a planned request meets.
#[derive(Clone, Copy, Debug)]
pub struct GatedTarget<'a> {
    /// The place of its target in the plan.
    pub place: usize,
    /// The target's pool.
    pub pool: PoolId,
    /// What judges who may go there; `None` where nobody waits for it.
    pub gate: Option<&'a Arc<AdmissionGate>>,
    /// The request as the gate sees it.
    pub request: GateRequest,
}

/// Finds the gate that a planned request meets; `None` without admission, or a target.
pub fn find_gate<'a>(
    snapshot: &'a Snapshot,
    plan: &Plan,
    input: GateInput<'_>,
    now: Instant,
) -> Option<GatedTarget<'a>> {
    let (policy, GateInput { client, tenant, bytes }) = (&snapshot.policy, input);
    let admission = policy.admission.as_ref()?;
    let place = find_target_with_room(snapshot, &plan.targets, now);
    let target = plan.targets.get(place)?;
    let pool = target.pool(policy);
    let priority = admission.priority(PriorityInput {
        decision: plan.effects.as_ref().and_then(|effects| effects.priority),
        model: policy[target.model].priority,
        ..client
    });
    let request = GateRequest { priority, tenant, bytes };
    Some(GatedTarget { place, pool, gate: snapshot.pool(pool).gate(), request })
}

/// The first of the headers that is sent and may be believed.
pub fn sent_header(headers: &HeaderMap, names: [&str; 2]) -> Option<String> {
    let values = names.into_iter().filter_map(|name| headers.get(name));
    values.filter_map(|value| value.to_str().ok()).map(str::to_owned).next()
}

/// Finds the place of the target that a request goes to, or waits for: the first whose pool has room, else the first that
/// has any endpoint.
fn find_target_with_room(snapshot: &Snapshot, targets: &[PlanTarget], now: Instant) -> usize {
    let pool = |target: &PlanTarget| snapshot.pool(target.pool(&snapshot.policy));
    let is_there = |target: &&PlanTarget| pool(target).available(now) > 0;
    let has_room = |target: &PlanTarget| pool(target).gate().is_none_or(|gate| !gate.sheds(now));
    let place = targets.iter().position(|target| is_there(&target) && has_room(target));
    place.or_else(|| targets.iter().position(|target| is_there(&target))).unwrap_or(0)
}

impl From<AdmissionRefusal> for ShedReason {
    fn from(refusal: AdmissionRefusal) -> Self {
        match refusal {
            AdmissionRefusal::Saturated => Self::Saturated,
            AdmissionRefusal::QueueFull => Self::QueueFull,
            AdmissionRefusal::Displaced => Self::Displaced,
            AdmissionRefusal::Expired => Self::Expired,
        }
    }
}
