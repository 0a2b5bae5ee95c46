//! Owns `/api/v1/classify/intent`: what a text is about, and where the policy in force sends it.

use super::envelope::{Body, Fault};
use super::{Admin, ask, millis_since};
use crate::classify::{ClassifyHeads, Findings, Label, Unknown};
use crate::decide::trace;
use crate::openai::{ChatRequest, Rejection};
use crate::policy::Policy;
use crate::route::settle;
use crate::signals::Audience;
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

#[derive(Deserialize)]
pub(super) struct IntentRequest {
    #[serde(default)]
    text: String,
    messages: Option<Box<RawValue>>,
    model: Option<String>,
    options: Option<IntentOptions>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the API's own")]
pub(super) struct IntentOptions {
    /// Whether every label's probability is wanted.
    pub(super) return_probabilities: bool,
    /// Below it the answer is too unsure for a decision, whatever the policy says.
    pub(super) confidence_threshold: Option<f32>,
    /// Whether it is to be said what each decision made of the text.
    include_explanation: bool,
    trace: bool,
    /// Whether to ask for jailbreak and personal data too.
    evaluate_all_signals: bool,
}

#[derive(Serialize)]
pub(super) struct IntentResponse {
    classification: Classification,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<String, f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recommended_model: Option<String>,
    routing_decision: String,
    matched_signals: MatchedSignals,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_result: Option<DecisionResult>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    signal_errors: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Vec<Tried>>,
}

#[derive(Serialize)]
struct Classification {
    category: String,
    confidence: f32,
    processing_time_ms: u64,
}

#[derive(Default, Serialize)]
struct MatchedSignals {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jailbreak: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pii: Vec<String>,
}

#[derive(Serialize)]
struct DecisionResult {
    decision_name: String,
    confidence: f32,
    matched_rules: Vec<String>,
}

/// What a decision made of the text.
#[derive(Serialize)]
struct Tried {
    decision: String,
    matched: bool,
    why: String,
}

pub(super) async fn intent(
    State(admin): State<Admin>,
    Body(request): Body<IntentRequest>,
) -> Result<Json<IntentResponse>, Fault> {
    let (began, live) = (Instant::now(), admin.live.load());
    let text = text_of(&request)?;
    let options = request.options.unwrap_or_default();
    let findings = ask(&live, &text, questions(options)).await;
    respond(&live, request.model.as_deref(), options, &findings, began).map(Json)
}

/// What these options ask for.
pub(super) fn questions(options: IntentOptions) -> ClassifyHeads {
    let all = options.evaluate_all_signals;
    ClassifyHeads { jailbreak: all, pii: all, ..ClassifyHeads::DOMAIN }
}

/// The text itself, or that of the messages as the proxy would read it.
fn text_of(request: &IntentRequest) -> Result<String, Fault> {
    if !request.text.trim().is_empty() {
        return Ok(request.text.clone());
    }
    let empty = || Fault::invalid("text cannot be empty");
    let messages = request.messages.as_ref().ok_or_else(empty)?;
    let body = format!("{{\"model\":\"auto\",\"messages\":{}}}", messages.get());
    let request = ChatRequest::parse(body.into()).map_err(|fault| Fault::invalid(fault.to_string()))?;
    let text = request.prompt_text();
    if text.trim().is_empty() { Err(empty()) } else { Ok(text.into_owned()) }
}

/// Puts an answer together from what was found; `model` is what the client would name.
pub(super) fn respond(
    live: &Snapshot,
    model: Option<&str>,
    options: IntentOptions,
    findings: &Findings,
    began: Instant,
) -> Result<IntentResponse, Fault> {
    let label = findings.domain.clone().unwrap_or(Err(Unknown::Unsupported)).map_err(Fault::unknown)?;
    let policy = &live.policy;
    let routing = routing(policy, model, options, &label)?;
    let explanation = (options.include_explanation || options.trace).then(|| tried(policy, &label));
    let decision_result = routing.decision.as_ref().map(|name| DecisionResult {
        decision_name: name.clone(),
        confidence: label.confidence,
        matched_rules: vec![format!("domain:{}", label.name)],
    });
    Ok(IntentResponse {
        probabilities: options.return_probabilities.then(|| probabilities(live.classifier.labels(), &label)),
        recommended_model: routing.model,
        routing_decision: routing.word,
        matched_signals: matched(policy, findings),
        decision_result,
        signal_errors: findings
            .unknowns()
            .map(|(question, unknown)| (question.as_str(), unknown.as_str()))
            .collect(),
        explanation,
        classification: Classification {
            category: label.name.to_string(),
            confidence: label.confidence,
            processing_time_ms: millis_since(began),
        },
    })
}

/// Each label with its probability.
pub(super) fn probabilities(labels: &[Arc<str>], label: &Label) -> BTreeMap<String, f32> {
    labels.iter().map(ToString::to_string).zip(label.probabilities.iter().copied()).collect()
}

/// Where the policy sends a text.
struct Routing {
    model: Option<String>,
    decision: Option<String>,
    /// The decision's name, or the word for its absence.
    word: String,
}

fn routing(
    policy: &Policy,
    model: Option<&str>,
    options: IntentOptions,
    label: &Label,
) -> Result<Routing, Fault> {
    let without =
        |model: Option<String>, word: &str| Routing { model, decision: None, word: word.to_owned() };
    let Some(asked) = model.or_else(|| policy.virtual_models().next()) else {
        // Every request names its model.
        return Ok(without(None, "named"));
    };
    let is_unsure = options.confidence_threshold.is_some_and(|least| label.confidence < least);
    if let Some(recipe) = policy.recipe(asked).filter(|_| is_unsure) {
        let default = recipe.default_model.map(|id| policy[id].name.clone());
        return Ok(without(default, "low_confidence_general"));
    }
    let domain = Ok(label.clone());
    match settle(policy, asked, &Signals::from_domain(policy, &domain), Some(&domain)) {
        Ok(settled) => {
            let story = settled.story;
            let word = story.decision.clone().unwrap_or_else(|| story.reason.as_str().to_owned());
            let model = story.model(policy).map(|model| model.name.clone());
            Ok(Routing { model, decision: story.decision, word })
        }
        Err(Rejection::Unclassified { .. }) => Ok(without(None, "rejected")),
        Err(unknown) => {
            Err(Fault::new(StatusCode::BAD_REQUEST, "INVALID_ROUTING_MODEL", unknown.to_string()))
        }
    }
}

fn tried(policy: &Policy, label: &Label) -> Vec<Tried> {
    let signals = Signals::from_domain(policy, &Ok(label.clone()));
    let steps = trace(policy, &policy.recipes[0], Audience::Open, &signals).map(|step| Tried {
        decision: step.decision.name.clone(),
        matched: step.matched(),
        why: step.to_string(),
    });
    steps.collect()
}

fn matched(policy: &Policy, findings: &Findings) -> MatchedSignals {
    let mut matched = MatchedSignals::default();
    if let Some(Ok(label)) = &findings.domain
        && label.confidence >= policy.classifier.min_confidence.fraction()
    {
        matched.domains.push(label.name.to_string());
    }
    if let Some(Ok(risk)) = &findings.jailbreak
        && risk.is_jailbreak()
    {
        matched.jailbreak.push("jailbreak".to_owned());
    }
    if let Some(Ok(entities)) = &findings.pii {
        matched.pii.extend(entities.iter().map(|entity| entity.kind.to_string()));
        matched.pii.sort_unstable();
        matched.pii.dedup();
    }
    matched
}
