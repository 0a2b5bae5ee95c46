//! Owns the decision about a request whose signals are read: by the model that it names, or by the recipe behind the
//! virtual model that it names.
//!
//! Knows nothing of guards and plugins.

use super::retry_after::retry_after;
use super::trace::{RoutingReason, RoutingTrace};
use crate::classify::Unknown;
use crate::decide::{DecisionOutcome, decide};
use crate::openai::{Api, ChatRequest, Rejection};
use crate::policy::{Decision, FixedUse, ModelId, OnUnknown, Policy, Recipe};
use crate::signals::{Audience, SignalEvaluation};
use crate::snapshot::HeldRoute;

/// What the model's name in a request stands for.
#[derive(Clone, Copy)]
pub(super) enum RequestedModel<'a> {
    /// A model, or one of its adapters.
    Named { model: ModelId, lora: Option<&'a str> },
    /// A virtual model, in a request that is about nothing that a decision could go by.
    Fixed(ModelId),
    /// A virtual model: a recipe's decisions choose.
    Virtual(&'a Recipe),
}

impl<'a> RequestedModel<'a> {
    pub(super) fn find(policy: &'a Policy, request: &'a ChatRequest) -> Result<Self, Rejection> {
        let name = request.model();
        if let Some(model) = policy.model(name) {
            return Ok(Self::Named { model, lora: None });
        }
        if let Some(model) = policy.model_of_lora(name) {
            return Ok(Self::Named { model, lora: Some(name) });
        }
        let unknown = || Rejection::UnknownModel { name: name.to_owned() };
        let recipe = policy.recipe(name).ok_or_else(unknown)?;
        let Some(purpose) = fixed_use(request.api()) else { return Ok(Self::Virtual(recipe)) };
        policy.default_for(purpose).or(recipe.default_model).map(Self::Fixed).ok_or_else(unknown)
    }

    /// The model, where no decision chooses it.
    pub(super) fn model(self) -> Option<ModelId> {
        match self {
            Self::Named { model, .. } | Self::Fixed(model) => Some(model),
            Self::Virtual(_) => None,
        }
    }
}

/// What a virtual model's requests of an API are for, where one model does it for all of them.
fn fixed_use(api: Api) -> Option<FixedUse> {
    match api {
        Api::Embeddings => Some(FixedUse::Embeddings),
        Api::Rerank => Some(FixedUse::Rerank),
        Api::Score => Some(FixedUse::Score),
        Api::Classify => Some(FixedUse::Classify),
        Api::Pooling => Some(FixedUse::Pooling),
        Api::Tokenize | Api::Detokenize => Some(FixedUse::Tokenize),
        Api::Speech => Some(FixedUse::Speech),
        Api::Transcriptions | Api::Translations => Some(FixedUse::Transcription),
        Api::Moderations => Some(FixedUse::Moderation),
        Api::Chat
        | Api::Completions
        | Api::Responses
        | Api::InputTokens
        | Api::Compact
        | Api::StoredResponse
        | Api::Messages
        | Api::CountTokens
        | Api::Images
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::RenderChat
        | Api::RenderCompletions
        | Api::RenderMessages
        | Api::RenderResponses
        | Api::Resource
        | Api::Realtime => None,
    }
}

/// What the decisions make of a request, before its guards judge it.
#[derive(Debug)]
pub(super) struct RoutingDecision<'a> {
    /// The trace so far.
    pub(super) trace: RoutingTrace,
    /// The decision that matched.
    pub(super) decision: Option<&'a Decision>,
    /// The same, where the client left the model to it.
    pub(super) routing: Option<&'a Decision>,
    /// The model where no decision routes.
    pub(super) default: ModelId,
    /// The adapter that the client named.
    pub(super) lora: Option<&'a str>,
}

impl<'a> RoutingDecision<'a> {
    fn new(reason: RoutingReason, default: ModelId) -> Self {
        Self { trace: RoutingTrace::new(reason), decision: None, routing: None, default, lora: None }
    }

    /// Goes on with a decision that matched earlier, where it and its model are still there.
    pub(super) fn keep(&mut self, policy: &Policy, recipe: &'a Recipe, held: &HeldRoute) {
        let decision = recipe.decisions.iter().find(|decision| *decision.name == *held.decision);
        let Some(decision) = decision else { return };
        let is_held = |model: &ModelId| *policy[*model].name == *held.model;
        let Some(model) = decision.models.iter().map(|one| one.model).find(is_held) else { return };
        self.trace.reason = RoutingReason::Kept;
        self.trace.decision = Some(decision.name.clone());
        self.trace.model = Some(model);
        (self.decision, self.routing) = (Some(decision), Some(decision));
    }

    fn matched(mut self, decision: &'a Decision, score: f32) -> Self {
        self.trace.decision = Some(decision.name.clone());
        self.trace.score = Some(score);
        self.decision = Some(decision);
        self.routing = Some(decision).filter(|_| self.trace.reason == RoutingReason::Decided);
        self
    }
}

/// Decides about a request by its signals; `label` is what its prompt is about, where that was classified.
pub(super) fn decide_route<'a>(
    policy: &'a Policy,
    requested: RequestedModel<'a>,
    known: &SignalEvaluation,
) -> Result<RoutingDecision<'a>, Rejection> {
    let mut routing = match requested {
        RequestedModel::Named { model, lora } => {
            let named = RoutingDecision { lora, ..RoutingDecision::new(RoutingReason::Named, model) };
            decide_beside(policy, named, known)?
        }
        RequestedModel::Fixed(model) => {
            decide_beside(policy, RoutingDecision::new(RoutingReason::NoDecision, model), known)?
        }
        RequestedModel::Virtual(recipe) => decide_by(policy, recipe, known)?,
    };
    routing.trace.label = known.label().and_then(|label| label.as_ref().ok()).cloned();
    routing.trace.model.get_or_insert(routing.default);
    Ok(routing)
}

/// Finds the decision of a request whose model is known already.
fn decide_beside<'a>(
    policy: &'a Policy,
    routing: RoutingDecision<'a>,
    known: &SignalEvaluation,
) -> Result<RoutingDecision<'a>, Rejection> {
    match decide(&policy.recipes[0], Audience::Named, &known.signals) {
        DecisionOutcome::Decision(decision, score) => Ok(routing.matched(decision, score)),
        DecisionOutcome::Nothing(_) => Ok(routing),
        DecisionOutcome::Refused(_, unknown) => {
            let retry_after = retry_after(unknown, known);
            Err(Rejection::Unjudged { reason: unknown.as_str(), retry_after })
        }
    }
}

fn decide_by<'a>(
    policy: &'a Policy,
    recipe: &'a Recipe,
    known: &SignalEvaluation,
) -> Result<RoutingDecision<'a>, Rejection> {
    let unknown_model = || Rejection::UnknownModel { name: recipe.virtual_models.join(", ") };
    let default = recipe.default_model.ok_or_else(unknown_model)?;
    let rejects = policy.classifier.on_unknown == OnUnknown::Reject;
    let mut routing = match decide(recipe, Audience::Open, &known.signals) {
        DecisionOutcome::Decision(decision, score) => {
            let mut routing = RoutingDecision::new(RoutingReason::Decided, default).matched(decision, score);
            routing.trace.model = decision.models.first().map(|first| first.model);
            routing
        }
        DecisionOutcome::Refused(_, unknown) => return Err(unclassified(unknown, known)),
        DecisionOutcome::Nothing(Some(unknown)) if rejects => return Err(unclassified(unknown, known)),
        DecisionOutcome::Nothing(unknown) => {
            let min_confidence = policy.classifier.min_confidence.fraction();
            let is_unsure = known
                .label()
                .is_some_and(|label| label.as_ref().is_ok_and(|it| it.confidence < min_confidence));
            if rejects && is_unsure {
                return Err(Rejection::Unclassified { reason: "unsure", retry_after: None });
            }
            RoutingDecision::new(
                unknown.map_or(RoutingReason::NoDecision, RoutingReason::Unclassified),
                default,
            )
        }
    };
    routing.trace.recipe.clone_from(&recipe.name);
    Ok(routing)
}

fn unclassified(unknown: Unknown, known: &SignalEvaluation) -> Rejection {
    Rejection::Unclassified { reason: unknown.as_str(), retry_after: retry_after(unknown, known) }
}
