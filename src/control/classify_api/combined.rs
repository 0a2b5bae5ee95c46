//! Owns `/api/v1/classify/combined`: several answers about one text, from one pass.

use super::envelope::{Body, Fault};
use super::intent::{self, IntentOptions, IntentResponse};
use super::pii::{self, PiiOptions, PiiResponse, Wanted};
use super::security::{self, SecurityOptions, SecurityResponse};
use super::{Admin, ask, ensure_text, millis_since};
use crate::classify::ClassifyHeads;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Deserialize)]
pub(super) struct CombinedRequest {
    #[serde(default)]
    text: String,
    /// What is wanted; everything where nothing is named.
    #[serde(default)]
    tasks: Vec<Task>,
    intent_options: Option<IntentOptions>,
    pii_options: Option<PiiOptions>,
    security_options: Option<SecurityOptions>,
    /// The same three under shorter names, as in the API's documentation.
    #[serde(default)]
    options: Options,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    intent: Option<IntentOptions>,
    pii: Option<PiiOptions>,
    security: Option<SecurityOptions>,
}

/// One kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Task {
    Intent,
    Pii,
    Security,
}

#[derive(Serialize)]
pub(super) struct CombinedResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<IntentResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pii: Option<PiiResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    security: Option<SecurityResponse>,
    processing_time_ms: u64,
}

pub(super) async fn combined(
    State(admin): State<Admin>,
    Body(request): Body<CombinedRequest>,
) -> Result<Json<CombinedResponse>, Fault> {
    let (began, live) = (Instant::now(), admin.live.load());
    ensure_text(&request.text)?;
    let wants = |task| request.tasks.is_empty() || request.tasks.contains(&task);
    let intent_options = request.intent_options.or(request.options.intent).unwrap_or_default();
    let pii_options = request.pii_options.or(request.options.pii).unwrap_or_default();
    let security_options = request.security_options.or(request.options.security).unwrap_or_default();
    let wanted = Wanted::of(&pii_options, &live.classifier)?;
    security_options.ensure_known()?;

    let of_intent = if wants(Task::Intent) { intent::questions(intent_options) } else { ClassifyHeads::NONE };
    let questions = ClassifyHeads {
        pii: of_intent.pii || wants(Task::Pii),
        jailbreak: of_intent.jailbreak || wants(Task::Security),
        ..of_intent
    };
    let findings = ask(&live, &request.text, questions).await;
    let intent = wants(Task::Intent).then(|| intent::respond(&live, None, intent_options, &findings, began));
    let security =
        wants(Task::Security).then(|| security::respond(&security_options, findings.clone(), began));
    let pii = wants(Task::Pii).then(|| pii::respond(&request.text, &pii_options, &wanted, findings, began));
    Ok(Json(CombinedResponse {
        intent: intent.transpose()?,
        pii: pii.transpose()?,
        security: security.transpose()?,
        processing_time_ms: millis_since(began),
    }))
}
