//! Owns where a request meets the policy: the plan for it, and why. The proxy, the classify API and `explain` all go
//! through [`plan`]; first attempts, retries and shadow copies all go through [`lease_endpoint`].
//!
//! Knows nothing of sockets; calls the classifier only when a decision, a guard or a plugin needs its answer.

mod admission;
mod conversation;
mod decision;
mod endpoint;
mod follow;
mod guards;
mod masking;
mod models;
mod plain;
mod plan;
mod plugins;
mod retry_after;
mod trace;
mod translation;

pub use admission::{
    FAIRNESS_HEADERS, GateInput, GatedTarget, OBJECTIVE_HEADERS, find_gate, find_saturated_pool, sent_header,
};
pub use endpoint::{LeaseInput, LeasedTarget, forecast, lease_endpoint, lease_prefill};
pub use follow::{RouteEnd, follow_routes};
pub use plain::{PlainRequest, follow_plainly};
pub use plan::{
    ConversationKey, DirectResponse, FollowedRule, MaskedValues, Plan, PlanTarget, RequestEffects, ShadowPlan,
};
pub use trace::{AttackPlace, ChosenModel, GuardNotice, RoutingReason, RoutingTrace, RunnerUpModel};
pub use translation::{AnswerUse, added_usage, translation, upstream_body};

use crate::classify::{ClassifyLimits, Priority};
use crate::openai::{Api, ChatRequest, Rejection};
use crate::policy::{
    ClassifierPolicy, Decision, Model, ModelId, Policy, PoolId, PoolSpec, Principal, Shadow,
};
use crate::signals::{Requirements, SignalEvaluation, SignalQuery};
use crate::snapshot::{ResponseOwner, Snapshot};
use conversation::Conversation;
use decision::{RequestedModel, RoutingDecision, decide_route};
use guards::{ActiveGuards, GuardInput, PromptVerdict};
use plan::ModelEffects;
use plugins::ToolContext;
use std::sync::Arc;
use std::time::Instant;

/// A request, as a plan is made for it.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// The API that it is sent to.
    pub api: Api,
    /// The request.
    pub request: &'a ChatRequest,
    /// The client, where it is authenticated.
    pub principal: Option<&'a Principal>,
    /// The headers that decisions keep sessions on their models by, as the client sent them.
    pub sent: &'a [(String, String)],
    /// By when the classifier must have answered.
    pub deadline: Instant,
    /// Whether nothing comes of the plan: a session is then not bound to the model that it would get.
    pub dry_run: bool,
}

/// What becomes of a request, and how that came about.
#[derive(Debug)]
pub struct PlanResult {
    /// What the response, the log and the metrics say; none where the request was refused before anything was decided.
    pub trace: Option<RoutingTrace>,
    /// What was found out about the request, where anything was asked.
    pub known: Option<Arc<SignalEvaluation>>,
    /// Where it goes, or what it is answered here.
    pub outcome: Result<Plan, DirectResponse>,
}

/// Plans a request: by the model it names, or by its signals.
pub async fn plan(snapshot: &Snapshot, input: PlanInput<'_>) -> PlanResult {
    let policy = &snapshot.policy;
    let requested = match RequestedModel::find(policy, input.request) {
        Ok(requested) => requested,
        Err(rejection) => {
            let outcome = Err(DirectResponse::Rejected(rejection));
            return PlanResult { trace: None, known: None, outcome };
        }
    };
    let requirements = match &requested {
        RequestedModel::Named { model, .. } | RequestedModel::Fixed(model) => {
            snapshot.requirements_for_model(*model)
        }
        RequestedModel::Virtual(recipe) => snapshot.requirements_for(recipe),
    };
    let known = if requirements.is_empty() {
        None
    } else {
        let query = SignalQuery {
            request: input.request,
            principal: input.principal,
            requirements,
            limits: limits(&policy.classifier, requirements, input.deadline),
        };
        Some(Arc::new(snapshot.detectors.evaluate(query, &snapshot.classifier).await))
    };
    let nothing = Arc::default();
    let found = known.as_ref().unwrap_or(&nothing);
    let (trace, outcome) = match decide_route(policy, requested, found) {
        Ok(mut routing) => {
            let conversation = Conversation::of(snapshot, requested, input);
            if let Some(conversation) = &conversation {
                conversation.go_on(&mut routing);
            }
            let mut outcome = route_and_guard(snapshot, input, found, &mut routing).await;
            if let (Ok(plan), Some(decision)) = (&mut outcome, routing.decision) {
                let applied = Box::pin(apply_plugins(plan, snapshot, input, found, decision)).await;
                routing.trace.system_prompt = applied.is_ok()
                    && input.api.is_conversation()
                    && decision.plugins.system_prompt.is_some();
                routing.trace.reasoning = plan.targets.first().and_then(|target| target.reasoning);
                outcome = applied.map_err(DirectResponse::Rejected).and(outcome);
            }
            if let (Ok(plan), Some(decision)) = (&mut outcome, routing.routing) {
                let applied = Box::pin(apply_targets(plan, snapshot, input, found, decision)).await;
                outcome = applied.map_err(DirectResponse::Rejected).and(outcome);
            }
            if let (Ok(plan), Some(conversation), false) = (&mut outcome, conversation, input.dry_run) {
                conversation.note(plan, &routing);
            }
            (Some(routing.trace), outcome)
        }
        Err(rejection) => (None, Err(DirectResponse::Rejected(rejection))),
    };
    PlanResult { trace, known, outcome }
}

/// Plans what is asked about a response that a pool's endpoint has made; nothing where the policy has the model or the pool no
/// more.
pub fn plan_for_owner(policy: &Policy, owner: &ResponseOwner) -> Option<Plan> {
    let model = policy.model(&owner.model)?;
    let mut targets = models::all_routes(policy, model, None, None);
    targets.retain(|target| *policy[target.route(policy).pool].name == *owner.pool);
    (!targets.is_empty()).then(|| Plan::new(targets, None))
}

/// Plans what is asked of the first pool whose server keeps such beside models; nothing where none does.
pub fn plan_for_resource(policy: &Policy, family: &str) -> Option<Plan> {
    let serves = |pool: &PoolSpec| pool.api.serves.iter().any(|served| served.as_str() == family);
    let pool = PoolId(policy.pools.iter().position(serves)?);
    let route_of = |model: &Model| model.routes.iter().position(|route| route.pool == pool);
    let (model, route) =
        policy.models.iter().enumerate().find_map(|(id, model)| Some((ModelId(id), route_of(model)?)))?;
    let target = models::all_routes(policy, model, None, None).swap_remove(route);
    Some(Plan::new(vec![target], None))
}

/// Plans a WebSocket: of the model that it names, or of the first that has such, those pools whose servers have it. Refused
/// where a guard would have to read it.
pub fn plan_for_websocket(policy: &Policy, model: Option<&str>, path: &str) -> Result<Plan, Rejection> {
    const FAMILY: &str = "realtime";
    let serves = |target: &PlanTarget| {
        policy[target.pool(policy)].api.serves.iter().any(|served| served.as_str() == FAMILY)
    };
    let targets_of = |model: ModelId, lora: Option<&str>| {
        let mut targets = models::all_routes(policy, model, lora, None);
        targets.retain(serves);
        targets
    };
    let named = model.filter(|name| policy.recipe(name).is_none());
    let targets = if let Some(name) = named {
        match (policy.model(name), policy.model_of_lora(name)) {
            (Some(model), _) => targets_of(model, None),
            (None, Some(model)) => targets_of(model, Some(name)),
            (None, None) => return Err(Rejection::UnknownModel { name: name.to_owned() }),
        }
    } else {
        let mut all = (0..policy.models.len()).map(|model| targets_of(ModelId(model), None));
        all.find(|targets| !targets.is_empty()).unwrap_or_default()
    };
    let not_served = || Rejection::NotServed { path: path.to_owned(), family: FAMILY };
    let model = targets.first().ok_or_else(not_served)?.model;
    if guards::rejects_unread(policy, model) {
        return Err(Rejection::UnguardedWebSocket);
    }
    Ok(Plan::new(targets, None))
}

/// A request that a guard must judge waits longer for the classifier than one that is only routed.
fn limits(classifier: &ClassifierPolicy, requirements: &Requirements, deadline: Instant) -> ClassifyLimits {
    match requirements.guard_timeout() {
        Some(timeout) => {
            let longer = timeout.saturating_sub(classifier.deadline);
            ClassifyLimits { deadline: deadline + longer, priority: Priority::Required }
        }
        None => deadline.into(),
    }
}

/// Chooses the targets of a request whose decision is known, and applies its guards.
async fn route_and_guard(
    snapshot: &Snapshot,
    input: PlanInput<'_>,
    known: &Arc<SignalEvaluation>,
    routing: &mut RoutingDecision<'_>,
) -> Result<Plan, DirectResponse> {
    let policy = &*snapshot.policy;
    if let Some(text) = routing.decision.and_then(|decision| decision.plugins.respond.clone()) {
        routing.trace.model = None;
        return Err(DirectResponse::Fixed(text));
    }
    let judge = guard_input(policy, input, known, routing.decision);
    let targets = if let Some(decision) = routing.routing {
        models::targets(snapshot, decision, input, &judge, &mut routing.trace)
    } else {
        let reasoning = routing.decision.and_then(|decision| decision.plugins.reasoning);
        models::all_routes(policy, routing.default, routing.lora, reasoning)
    };
    routing.trace.model = targets.first().map(|target| target.model);
    let active = judge.guards_of(routing.trace.model);
    if routing.decision.is_none() && active.are(&ActiveGuards::NONE) {
        return Ok(Plan::new(targets, None));
    }
    // Boxed: keeps the future of requests without guards small.
    Box::pin(apply_guards(targets, &judge, routing)).await
}

fn guard_input<'a>(
    policy: &'a Policy,
    input: PlanInput<'a>,
    known: &'a Arc<SignalEvaluation>,
    decision: Option<&'a Decision>,
) -> GuardInput<'a> {
    GuardInput { policy, decision, request: input.request, known, deadline: input.deadline }
}

/// Holds the guards of every target against the request: those of the first refuse, reroute or mask it, and a fall-back
/// whose own forbid it is left out.
async fn apply_guards(
    mut targets: Vec<PlanTarget>,
    judge: &GuardInput<'_>,
    routing: &mut RoutingDecision<'_>,
) -> Result<Plan, DirectResponse> {
    let mut active = judge.guards_of(routing.trace.model);
    let notices = &mut routing.trace.notices;
    if let Some(guard) = active.prompt {
        match guards::judge_prompt(guard, judge, notices) {
            PromptVerdict::Pass => {}
            PromptVerdict::Refuse(answer) => return Err(answer),
            PromptVerdict::Route(model) => {
                routing.trace.reason = RoutingReason::Guarded;
                routing.trace.model = Some(model);
                targets = models::all_routes(judge.policy, model, None, None);
                active = judge.guards_of(Some(model));
                // A guard sends a request on once; one that refuses holds there too.
                let other = active.prompt.filter(|other| !std::ptr::eq(*other, guard));
                if let Some(PromptVerdict::Refuse(answer)) =
                    other.map(|other| guards::judge_prompt(other, judge, notices))
                {
                    return Err(answer);
                }
            }
        }
    }
    let effects = effects(active, judge, notices).await?;
    let is_plain = routing.decision.is_none() && effects.request.is_none() && effects.answer.is_none();
    let mut plan = Plan::new(targets, (!is_plain).then(|| Box::new(effects)));
    let mut others: Vec<ModelId> = plan.targets.iter().map(|target| target.model).collect();
    others.dedup();
    for model in others.into_iter().skip(1) {
        let own = judge.guards_of(Some(model));
        if own.are(&active) || plan.others.iter().any(|other| other.model == model) {
            continue;
        }
        if let Some(effects) = allowed_effects(own, judge).await {
            plan.others.push(ModelEffects { model, effects: Some(Box::new(effects)) });
        } else {
            tracing::info!(model = %judge.policy[model].name, "a fall-back's own guard forbids the request: left out");
            plan.targets.retain(|target| target.model != model);
        }
    }
    Ok(plan)
}

/// What guards do to a request and its answer; masks it or refuses it.
async fn effects(
    guards: ActiveGuards<'_>,
    judge: &GuardInput<'_>,
    notices: &mut Vec<GuardNotice>,
) -> Result<RequestEffects, DirectResponse> {
    let masked = guards::judge_pii(&guards, judge, notices).await?;
    let (request, values) = masked.map(|masked| (masked.request, masked.values)).unzip();
    let values = values.map(|values| guards.values_to_unmask(values));
    Ok(RequestEffects {
        request,
        answer: guards.answer.cloned(),
        needs_facts: guards.answer.is_some_and(|guard| guard.hallucination.unverified)
            && guards::needs_facts(judge.policy, judge.known),
        unmask: values.unwrap_or_default(),
        embedding: judge.known.embedding().cloned(),
        ..RequestEffects::default()
    })
}

/// The same for a model beside the first; nothing where its guards refuse the request or send it elsewhere.
async fn allowed_effects(guards: ActiveGuards<'_>, judge: &GuardInput<'_>) -> Option<RequestEffects> {
    // What these find is not told: the request may never come there.
    let mut notices = Vec::new();
    let passes = |guard| matches!(guards::judge_prompt(guard, judge, &mut Vec::new()), PromptVerdict::Pass);
    if !guards.prompt.is_none_or(passes) {
        return None;
    }
    effects(guards, judge, &mut notices).await.ok()
}

/// Applies what a decision says of the models that it has chosen from.
async fn apply_targets(
    plan: &mut Plan,
    snapshot: &Snapshot,
    input: PlanInput<'_>,
    known: &Arc<SignalEvaluation>,
    decision: &Decision,
) -> Result<(), Rejection> {
    let mut shadow = match decision.shadow {
        Some(shadow) => {
            plan_shadow(shadow, &guard_input(&snapshot.policy, input, known, Some(decision)), plan).await
        }
        None => None,
    };
    if let Some(request) = shadow.as_mut().and_then(|shadow| shadow.request.as_mut()) {
        let context = tool_context(snapshot, input, known);
        *request = plugins::apply(&decision.plugins, input.api, request, &context).await?;
    }
    plan.effects.get_or_insert_default();
    for effects in plan.all_effects_mut() {
        effects.timeout = decision.timeout;
        effects.shadow.clone_from(&shadow);
    }
    Ok(())
}

fn tool_context<'a>(
    snapshot: &'a Snapshot,
    input: PlanInput<'_>,
    known: &'a SignalEvaluation,
) -> ToolContext<'a> {
    ToolContext {
        detectors: &snapshot.detectors,
        classifier: &snapshot.classifier,
        known,
        deadline: input.deadline,
    }
}

/// Applies the plugins of the decision that matched, to a request that names its model too.
async fn apply_plugins(
    plan: &mut Plan,
    snapshot: &Snapshot,
    input: PlanInput<'_>,
    known: &Arc<SignalEvaluation>,
    decision: &Decision,
) -> Result<(), Rejection> {
    let context = tool_context(snapshot, input, known);
    plan.effects.get_or_insert_default();
    for effects in plan.all_effects_mut() {
        let request = effects.request.as_ref().unwrap_or(input.request);
        effects.request = Some(plugins::apply(&decision.plugins, input.api, request, &context).await?);
        effects.headers.clone_from(&decision.plugins.headers);
        effects.cache = decision.plugins.cache;
        effects.priority = decision.plugins.priority;
    }
    Ok(())
}

/// Plans the copies for another model, unless its own guards forbid the request.
async fn plan_shadow(shadow: Shadow, judge: &GuardInput<'_>, plan: &Plan) -> Option<ShadowPlan> {
    let own = judge.guards_of(Some(shadow.model));
    let first = plan.targets.first().map(|target| target.model);
    let request = if own.are(&judge.guards_of(first)) {
        None
    } else {
        let allowed = allowed_effects(own, judge).await;
        if allowed.is_none() {
            tracing::info!(model = %judge.policy[shadow.model].name, "a shadow's own guard forbids the request: no copy");
        }
        Some(allowed?.request.unwrap_or_else(|| judge.request.clone()))
    };
    let targets = models::all_routes(judge.policy, shadow.model, None, None);
    Some(ShadowPlan { model: shadow.model, share: shadow.share, targets, request })
}
