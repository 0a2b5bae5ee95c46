//! Owns where a request meets the policy: the plan for it, and why.
//!
//! Knows nothing of sockets or headers; calls the classifier only when the request leaves the choice to us.

use crate::classify::{Findings, Label, Questions, Unknown};
use crate::decide::{Audience, Choice, decide};
use crate::openai::{ChatRequest, Rejection};
use crate::policy::{Model, ModelId, OnUnknown, Policy, Recipe, Route};
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use std::time::Instant;

/// What will be done with a request, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The model that answers.
    pub model: ModelId,
    /// The name of the decision that chose it.
    pub decision: Option<String>,
    /// What the prompt is about, where that was asked.
    pub label: Option<Label>,
    /// Why this model.
    pub reason: Reason,
}

/// Why a plan names the model it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client named the model.
    Named,
    /// A decision matched.
    Decided,
    /// The prompt's domain is in no decision, or is not sure enough for any.
    NoDecision,
    /// The classifier gave no answer, and the policy says to fall back.
    Unclassified(Unknown),
}

impl Reason {
    /// The reason as logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Named => "named",
            Reason::Decided => "decided",
            Reason::NoDecision => "default",
            Reason::Unclassified(Unknown::Busy) => "default_classifier_busy",
            Reason::Unclassified(Unknown::Late) => "default_classifier_late",
            Reason::Unclassified(Unknown::Failed) => "default_classifier_failed",
            Reason::Unclassified(Unknown::Empty) => "default_no_text",
            Reason::Unclassified(Unknown::Unsupported) => "default_classifier_unsupported",
            Reason::Unclassified(Unknown::TooLong) => "default_classifier_too_long",
        }
    }
}

impl Plan {
    /// The upstreams to try, in order; there is at least one.
    pub fn routes<'a>(&self, snapshot: &'a Snapshot) -> &'a [Route] {
        &self.model(snapshot).routes
    }

    /// The chosen model, as the policy knows it.
    pub fn model<'a>(&self, snapshot: &'a Snapshot) -> &'a Model {
        &snapshot.policy[self.model]
    }
}

/// Plans a request: by the model it names, or by what its prompt is about. Returns what was found out about it as
/// well, where that was asked, whatever came of it.
pub async fn plan(snapshot: &Snapshot, request: &ChatRequest) -> (Result<Plan, Rejection>, Option<Findings>) {
    let policy = &snapshot.policy;
    let recipe = match aim(policy, request.model()) {
        Ok(Aim::Named(model)) => return (Ok(named(model)), None),
        Ok(Aim::Open(recipe)) => recipe,
        Err(rejection) => return (Err(rejection), None),
    };
    let deadline = Instant::now() + policy.classifier.deadline;
    let findings = snapshot.classifier.classify(&request.prompt_text(), Questions::DOMAIN, deadline).await;
    let domain = findings.domain.clone().unwrap_or(Err(Unknown::Failed));
    (decided(policy, recipe, &domain), Some(findings))
}

/// Plans a request for `model` whose domain is known, or known to be unknown: [`plan`] without the classifier.
pub fn settle(policy: &Policy, model: &str, domain: &Result<Label, Unknown>) -> Result<Plan, Rejection> {
    match aim(policy, model)? {
        Aim::Named(model) => Ok(named(model)),
        Aim::Open(recipe) => decided(policy, recipe, domain),
    }
}

/// What the name of a model leaves open.
enum Aim<'a> {
    Named(ModelId),
    Open(&'a Recipe),
}

fn aim<'a>(policy: &'a Policy, name: &str) -> Result<Aim<'a>, Rejection> {
    if let Some(model) = policy.model(name) {
        return Ok(Aim::Named(model));
    }
    policy.recipe(name).map(Aim::Open).ok_or_else(|| Rejection::UnknownModel { name: name.to_owned() })
}

fn named(model: ModelId) -> Plan {
    Plan { model, decision: None, label: None, reason: Reason::Named }
}

fn decided(policy: &Policy, recipe: &Recipe, domain: &Result<Label, Unknown>) -> Result<Plan, Rejection> {
    let rejects = policy.classifier.on_unknown == OnUnknown::Reject;
    let unknown_model = || Rejection::UnknownModel { name: recipe.virtual_models.join(", ") };
    let default = recipe.default_model.ok_or_else(unknown_model)?;
    let label = match domain {
        Ok(label) => label.clone(),
        Err(unknown) if rejects => return Err(Rejection::Unclassified { reason: unknown.as_str() }),
        Err(unknown) => {
            let reason = Reason::Unclassified(*unknown);
            return Ok(Plan { model: default, decision: None, label: None, reason });
        }
    };
    let choice = decide(recipe, Audience::Open, &Signals::of_domain(policy, domain));
    if let Choice::Decision(decision, _) = choice
        && let Some(chosen) = decision.models.first()
    {
        let (model, decision) = (chosen.model, Some(decision.name.clone()));
        return Ok(Plan { model, decision, label: Some(label), reason: Reason::Decided });
    }
    let is_known = label.confidence >= policy.classifier.min_confidence.fraction();
    if !is_known && rejects {
        return Err(Rejection::Unclassified { reason: "unsure" });
    }
    Ok(Plan { model: default, decision: None, label: Some(label), reason: Reason::NoDecision })
}
