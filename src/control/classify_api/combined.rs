//! Owns `/api/v1/classify/combined`: several answers about one text, from one pass.

use super::envelope::{ApiError, JsonBody};
use super::intent::{self, IntentOptions, IntentResponse};
use super::pii::{self, EntityFilter, PiiOptions, PiiResponse};
use super::security::{self, SecurityOptions, SecurityResponse};
use super::{Admin, ask, ensure_text, millis_since};
use crate::classify::ClassifyHeads;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CombinedRequest {
    #[serde(default)]
    text: String,
    /// The wanted answers; all where nothing is named.
    #[serde(default)]
    tasks: Vec<CombinedTask>,
    intent_options: Option<IntentOptions>,
    pii_options: Option<PiiOptions>,
    security_options: Option<SecurityOptions>,
    /// The same three under shorter names, as in the API's documentation.
    #[serde(default)]
    options: CombinedOptions,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CombinedOptions {
    intent: Option<IntentOptions>,
    pii: Option<PiiOptions>,
    security: Option<SecurityOptions>,
}

/// One kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CombinedTask {
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
    JsonBody(request): JsonBody<CombinedRequest>,
) -> Result<Json<CombinedResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    ensure_text(&request.text)?;
    let wants = |task| request.tasks.is_empty() || request.tasks.contains(&task);
    let intent_options = request.intent_options.or(request.options.intent).unwrap_or_default();
    let pii_options = request.pii_options.or(request.options.pii).unwrap_or_default();
    let security_options = request.security_options.or(request.options.security).unwrap_or_default();
    let filter = EntityFilter::of(&pii_options, &live.classifier)?;
    security_options.ensure_known()?;

    let of_intent =
        if wants(CombinedTask::Intent) { intent::questions(intent_options) } else { ClassifyHeads::NONE };
    let questions = ClassifyHeads {
        pii: of_intent.pii || wants(CombinedTask::Pii),
        jailbreak: of_intent.jailbreak || wants(CombinedTask::Security),
        ..of_intent
    };
    let findings = ask(&live, &request.text, questions).await;
    let intent = if wants(CombinedTask::Intent) {
        let model = live.policy.virtual_models().next();
        let chat = intent::chat_request(model, &request.text, None, std::iter::empty())?;
        let chat = model.map(|_| &chat);
        Some(intent::respond(&live, chat, intent_options, &findings, began).await?)
    } else {
        None
    };
    let security =
        wants(CombinedTask::Security).then(|| security::respond(&security_options, findings.clone(), began));
    let pii =
        wants(CombinedTask::Pii).then(|| pii::respond(&request.text, &pii_options, &filter, findings, began));
    Ok(Json(CombinedResponse {
        intent,
        pii: pii.transpose()?,
        security: security.transpose()?,
        processing_time_ms: millis_since(began),
    }))
}
