//! Owns where a request meets the policy: the plan for it, and why.
//!
//! Knows nothing of sockets or headers; calls the classifier only when the request leaves the choice to us.

use crate::classify::{Label, Unknown};
use crate::decide::decide;
use crate::openai::{ChatRequest, Rejection};
use crate::policy::{Model, ModelId, OnUnknown, Route};
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

/// Plans a request: by the model it names, or by what its prompt is about.
pub async fn plan(snapshot: &Snapshot, request: &ChatRequest) -> Result<Plan, Rejection> {
    let policy = &snapshot.policy;
    if let Some(model) = policy.model(request.model()) {
        return Ok(Plan { model, decision: None, label: None, reason: Reason::Named });
    }
    let default = match policy.default_model {
        Some(default) if policy.is_virtual(request.model()) => default,
        _ => return Err(Rejection::UnknownModel { name: request.model().to_owned() }),
    };
    let deadline = Instant::now() + policy.classifier.deadline;
    match classify(snapshot, request, deadline).await {
        Ok(label) => decided(snapshot, default, label),
        Err(unknown) if policy.classifier.on_unknown == OnUnknown::Reject => {
            Err(Rejection::Unclassified { reason: unknown.as_str() })
        }
        Err(unknown) => {
            Ok(Plan { model: default, decision: None, label: None, reason: Reason::Unclassified(unknown) })
        }
    }
}

async fn classify(snapshot: &Snapshot, request: &ChatRequest, deadline: Instant) -> Result<Label, Unknown> {
    let text = request.prompt_text();
    if text.trim().is_empty() {
        return Err(Unknown::Empty);
    }
    snapshot.classifier.domain(&text, deadline).await
}

fn decided(snapshot: &Snapshot, default: ModelId, label: Label) -> Result<Plan, Rejection> {
    let policy = &snapshot.policy;
    if let Some(decision) = decide(policy, &label) {
        let (model, decision) = (decision.model, Some(decision.name.clone()));
        return Ok(Plan { model, decision, label: Some(label), reason: Reason::Decided });
    }
    let is_known = label.confidence >= policy.classifier.min_confidence.fraction();
    if !is_known && policy.classifier.on_unknown == OnUnknown::Reject {
        return Err(Rejection::Unclassified { reason: "unsure" });
    }
    Ok(Plan { model: default, decision: None, label: Some(label), reason: Reason::NoDecision })
}
