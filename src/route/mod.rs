//! Owns where a request meets the policy: the plan for it, and why. The proxy, the classify API and `explain` all go
//! through [`plan`]; first attempts, retries and shadow copies all go through [`lease_endpoint`].
//!
//! Knows nothing of sockets; calls the classifier only when a decision, a guard or a plugin needs its answer.

mod decision;
mod endpoint;
mod guards;
mod models;
mod plan;
mod plugins;
mod trace;

pub use endpoint::{LeaseInput, LeasedTarget, lease_endpoint};
pub use plan::{DirectResponse, MaskedValues, Plan, PlanTarget, RequestEffects, ShadowPlan};
pub use plugins::body_for;
pub use trace::{GuardNotice, RoutingReason, RoutingTrace};

use crate::openai::{Api, ChatRequest, Rejection};
use crate::policy::{Decision, PiiAction, Policy, Principal};
use crate::signals::{SignalEvaluation, SignalQuery};
use crate::snapshot::Snapshot;
use decision::{RequestedModel, RoutingDecision, decide_route};
use guards::{ActiveGuards, PromptVerdict};
use plugins::ToolContext;
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
    pub known: Option<SignalEvaluation>,
    /// Where it goes, or what it is answered here.
    pub outcome: Result<Plan, DirectResponse>,
}

/// Plans a request: by the model it names, or by its signals.
pub async fn plan(snapshot: &Snapshot, input: PlanInput<'_>) -> PlanResult {
    let policy = &snapshot.policy;
    let requested = match RequestedModel::find(policy, input.request.model()) {
        Ok(requested) => requested,
        Err(rejection) => {
            let outcome = Err(DirectResponse::Rejected(rejection));
            return PlanResult { trace: None, known: None, outcome };
        }
    };
    let requirements = match &requested {
        RequestedModel::Named { model, .. } => snapshot.requirements_for_model(*model),
        RequestedModel::Virtual(recipe) => snapshot.requirements_for(recipe),
    };
    let known = if requirements.is_empty() {
        None
    } else {
        let query = SignalQuery {
            request: input.request,
            principal: input.principal,
            requirements,
            deadline: input.deadline,
        };
        Some(snapshot.detectors.evaluate(query, &snapshot.classifier).await)
    };
    let nothing = SignalEvaluation::default();
    let found = known.as_ref().unwrap_or(&nothing);
    let (trace, outcome) = match decide_route(policy, requested, &found.signals, found.label()) {
        Ok(mut routing) => {
            let mut outcome = route_and_guard(snapshot, input, found, &mut routing);
            if let (Ok(plan), Some(decision)) = (&mut outcome, routing.decision) {
                let applied = Box::pin(apply_plugins(plan, snapshot, input, found, decision)).await;
                routing.trace.system_prompt = applied.is_ok() && decision.plugins.system_prompt.is_some();
                routing.trace.reasoning = plan.targets.first().and_then(|target| target.reasoning);
                outcome = applied.map_err(DirectResponse::Rejected).and(outcome);
            }
            if let (Ok(plan), Some(decision)) = (&mut outcome, routing.routing) {
                apply_targets(plan, policy, decision);
            }
            (Some(routing.trace), outcome)
        }
        Err(rejection) => (None, Err(DirectResponse::Rejected(rejection))),
    };
    PlanResult { trace, known, outcome }
}

/// Chooses the targets of a request whose decision is known, and applies its guards.
fn route_and_guard(
    snapshot: &Snapshot,
    input: PlanInput<'_>,
    known: &SignalEvaluation,
    routing: &mut RoutingDecision<'_>,
) -> Result<Plan, DirectResponse> {
    let policy = &snapshot.policy;
    if let Some(text) = routing.decision.and_then(|decision| decision.plugins.respond.clone()) {
        routing.trace.model = None;
        return Err(DirectResponse::Fixed(text));
    }
    let mut targets = if let Some(decision) = routing.routing {
        models::targets(snapshot, decision, input, known, &mut routing.trace)
    } else {
        let reasoning = routing.decision.and_then(|decision| decision.plugins.reasoning);
        models::all_routes(policy, routing.default, routing.lora, reasoning)
    };
    routing.trace.model = targets.first().map(|target| target.model);
    let mut active = ActiveGuards::of(policy, routing.decision, routing.trace.model);
    if let Some(guard) = active.prompt {
        match guards::judge_prompt(guard, known, input.request, &mut routing.trace.notices) {
            PromptVerdict::Pass => {}
            PromptVerdict::Refuse(answer) => return Err(answer),
            PromptVerdict::Route(model) => {
                routing.trace.reason = RoutingReason::Guarded;
                routing.trace.model = Some(model);
                targets = models::all_routes(policy, model, None, None);
                active = ActiveGuards::of(policy, routing.decision, Some(model));
            }
        }
    }
    let masked = match active.pii {
        Some(guard) => guards::judge_pii(guard, known, input.request, &mut routing.trace.notices)?,
        None => None,
    };
    let unmasks = matches!(active.pii.map(|guard| guard.action), Some(PiiAction::Mask { unmask: true }));
    if routing.decision.is_none() && masked.is_none() && active.answer.is_none() {
        return Ok(Plan { targets, effects: None });
    }
    let (request, masked) =
        masked.map_or((None, MaskedValues::new()), |(request, masked)| (Some(request), masked));
    let effects = RequestEffects {
        request,
        answer: active.answer.cloned(),
        needs_facts: active.answer.is_some_and(|guard| guard.hallucination.unverified)
            && guards::needs_facts(policy, known),
        unmask: if unmasks { masked } else { MaskedValues::new() },
        embedding: known.embedding().cloned(),
        ..RequestEffects::default()
    };
    Ok(Plan { targets, effects: Some(Box::new(effects)) })
}

/// Applies what a decision says of the models that it has chosen from.
fn apply_targets(plan: &mut Plan, policy: &Policy, decision: &Decision) {
    let effects = plan.effects.get_or_insert_default();
    effects.timeout = decision.timeout;
    effects.shadow = decision.shadow.map(|shadow| ShadowPlan {
        model: shadow.model,
        share: shadow.share,
        targets: models::all_routes(policy, shadow.model, None, None),
    });
}

/// Applies the plugins of the decision that matched, to a request that names its model too.
async fn apply_plugins(
    plan: &mut Plan,
    snapshot: &Snapshot,
    input: PlanInput<'_>,
    known: &SignalEvaluation,
    decision: &Decision,
) -> Result<(), Rejection> {
    let effects = plan.effects.get_or_insert_default();
    let context = ToolContext {
        detectors: &snapshot.detectors,
        classifier: &snapshot.classifier,
        known,
        deadline: input.deadline,
    };
    let request = effects.request.as_ref().unwrap_or(input.request);
    effects.request = Some(plugins::apply(&decision.plugins, input.api, request, &context).await?);
    effects.headers.clone_from(&decision.plugins.headers);
    effects.cache = decision.plugins.cache;
    Ok(())
}
