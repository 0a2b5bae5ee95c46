//! Owns `/api/v1/classify/intent`: what a text is about, and where the policy in force sends it.

use super::envelope::{ApiError, JsonBody};
use super::routing::Routing;
use super::{Admin, ask, millis_since};
use crate::classify::{ClassifyHeads, Findings, Label, Unknown};
use crate::decide::trace;
use crate::openai::ChatRequest;
use crate::policy::Policy;
use crate::signals::{Audience, Signals};
use crate::snapshot::Snapshot;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IntentRequest {
    #[serde(default)]
    text: String,
    messages: Option<Box<RawValue>>,
    model: Option<String>,
    options: Option<IntentOptions>,
    /// What else of the chat completion the signals look at.
    tools: Option<Box<RawValue>>,
    tool_choice: Option<Box<RawValue>>,
    functions: Option<Box<RawValue>>,
    function_call: Option<Box<RawValue>>,
    response_format: Option<Box<RawValue>>,
    max_tokens: Option<Box<RawValue>>,
    max_completion_tokens: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
}

impl IntentRequest {
    /// Gives the members of the chat completion beside its model and messages.
    fn members(&self) -> impl Iterator<Item = ChatMember<'_>> {
        let members = [
            ("tools", &self.tools),
            ("tool_choice", &self.tool_choice),
            ("functions", &self.functions),
            ("function_call", &self.function_call),
            ("response_format", &self.response_format),
            ("max_tokens", &self.max_tokens),
            ("max_completion_tokens", &self.max_completion_tokens),
            ("metadata", &self.metadata),
        ];
        members.into_iter().filter_map(|(name, json)| Some(ChatMember { name, json: json.as_ref()?.get() }))
    }
}

/// A member of a chat completion, as the client wrote it.
pub(super) struct ChatMember<'r> {
    name: &'static str,
    json: &'r str,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    classification: IntentClassification,
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
    explanation: Option<Vec<DecisionTrace>>,
}

#[derive(Serialize)]
struct IntentClassification {
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
struct DecisionTrace {
    decision: String,
    matched: bool,
    why: String,
}

pub(super) async fn intent(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<IntentRequest>,
) -> Result<Json<IntentResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    let options = request.options.unwrap_or_default();
    let model = request.model.as_deref().or_else(|| live.policy.virtual_models().next());
    let chat = chat_request(model, &request.text, request.messages.as_deref(), request.members())?;
    let findings = ask(&live, &chat.prompt_text(), questions(options)).await;
    respond(&live, model.map(|_| &chat), options, &findings, began).await.map(Json)
}

/// What these options ask for.
pub(super) fn questions(options: IntentOptions) -> ClassifyHeads {
    let all = options.evaluate_all_signals;
    ClassifyHeads { jailbreak: all, pii: all, ..ClassifyHeads::DOMAIN }
}

/// The chat request that a client would send: of one text, or of the messages where there is none.
pub(super) fn chat_request<'r>(
    model: Option<&str>,
    text: &str,
    messages: Option<&RawValue>,
    more: impl Iterator<Item = ChatMember<'r>>,
) -> Result<ChatRequest, ApiError> {
    let empty = || ApiError::invalid("text cannot be empty");
    let of_text = (!text.trim().is_empty()).then(|| json!([{"role": "user", "content": text}]).to_string());
    let messages = of_text.as_deref().or(messages.map(RawValue::get)).ok_or_else(empty)?;
    let more =
        more.map(|member| format!(",\"{}\":{}", member.name, member.json)).collect::<Vec<_>>().concat();
    let body = format!("{{\"model\":{},\"messages\":{messages}{more}}}", json!(model.unwrap_or("auto")));
    let request = ChatRequest::parse(body.into()).map_err(|error| ApiError::invalid(error.to_string()))?;
    if request.prompt_text().trim().is_empty() { Err(empty()) } else { Ok(request) }
}

/// Puts an answer together from what was found; `chat` is the request to route, if it names a model.
pub(super) async fn respond(
    live: &Snapshot,
    chat: Option<&ChatRequest>,
    options: IntentOptions,
    findings: &Findings,
    began: Instant,
) -> Result<IntentResponse, ApiError> {
    let label = findings.domain.clone().unwrap_or(Err(Unknown::Unsupported)).map_err(ApiError::unknown)?;
    let policy = &live.policy;
    let routing = match chat {
        Some(chat) => routing(live, chat, options, &label).await?,
        // The policy has no virtual model: every request names its own.
        None => Routing::undecided(None, "named"),
    };
    let explains = options.include_explanation || options.trace;
    let explanation = explains.then(|| explanation(policy, chat, routing.signals.as_ref(), &label));
    let decision_result = routing.decision.map(|decision| DecisionResult {
        decision_name: decision.name,
        confidence: decision.score,
        matched_rules: decision.rules,
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
        classification: IntentClassification {
            category: label.name.to_string(),
            confidence: label.confidence,
            processing_time_ms: millis_since(began),
        },
    })
}

/// Where the request would go; to its recipe's default model if the client finds the label too unsure.
async fn routing(
    live: &Snapshot,
    chat: &ChatRequest,
    options: IntentOptions,
    label: &Label,
) -> Result<Routing, ApiError> {
    let routing = Routing::of(live, chat).await?;
    let is_unsure = options.confidence_threshold.is_some_and(|least| label.confidence < least);
    let Some(recipe) = live.policy.recipe(chat.model()).filter(|_| is_unsure) else { return Ok(routing) };
    let default = recipe.default_model.map(|id| live.policy[id].name.clone());
    Ok(Routing { signals: routing.signals, ..Routing::undecided(default, "low_confidence_general") })
}

/// What each decision makes of the signals; of the domain alone where the model is named, since no decision routes.
fn explanation(
    policy: &Policy,
    chat: Option<&ChatRequest>,
    signals: Option<&Signals>,
    label: &Label,
) -> Vec<DecisionTrace> {
    let by_domain = Signals::from_domain(policy, &Ok(label.clone()));
    let (recipe, signals) = match chat.and_then(|chat| policy.recipe(chat.model())) {
        Some(recipe) => (recipe, signals.unwrap_or(&by_domain)),
        None => (&policy.recipes[0], &by_domain),
    };
    let steps = trace(policy, recipe, Audience::Open, signals).map(|step| DecisionTrace {
        decision: step.decision.name.clone(),
        matched: step.matched(),
        why: step.to_string(),
    });
    steps.collect()
}

/// Each label with its probability.
pub(super) fn probabilities(labels: &[Arc<str>], label: &Label) -> BTreeMap<String, f32> {
    labels.iter().map(ToString::to_string).zip(label.probabilities.iter().copied()).collect()
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
    if let Some(found) = &findings.pii {
        matched.pii.extend(found.entities.iter().map(|entity| entity.kind.to_string()));
        matched.pii.sort_unstable();
        matched.pii.dedup();
    }
    matched
}
