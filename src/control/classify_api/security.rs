//! Owns `/api/v1/classify/security`: whether a text attacks the model that reads it.

use super::envelope::{ApiError, JsonBody};
use super::{Admin, ask, ensure_text, millis_since};
use crate::classify::{ClassifyHeads, Findings, Risk, Unknown};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What is looked for, by the names that the API's documentation uses; one head answers for all of them.
const DETECTED: [&str; 4] = ["jailbreak", "prompt_injection", "system_override", "manipulation"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecurityRequest {
    #[serde(default)]
    text: String,
    options: Option<SecurityOptions>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SecurityOptions {
    /// What to look for; everything where nothing is named.
    detection_types: Vec<String>,
    sensitivity: Sensitivity,
    /// Whether to say why.
    include_reasoning: bool,
}

/// How readily a text is flagged.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sensitivity {
    /// Half way from the policy's threshold to certainty.
    Low,
    /// The policy's threshold.
    #[default]
    Medium,
    /// Half of the policy's threshold.
    High,
}

#[derive(Serialize)]
pub(super) struct SecurityResponse {
    is_jailbreak: bool,
    risk_score: f32,
    detection_types: Vec<&'static str>,
    confidence: f32,
    recommendation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    /// Which bytes of the text have that score.
    worst_span: WorstSpan,
    patterns_detected: Vec<&'static str>,
    processing_time_ms: u64,
}

/// A part of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct WorstSpan {
    start: usize,
    end: usize,
}

impl Sensitivity {
    fn threshold(self, of_policy: f32) -> f32 {
        match self {
            Self::Low => f32::midpoint(of_policy, 1.0),
            Self::Medium => of_policy,
            Self::High => of_policy / 2.0,
        }
    }
}

impl SecurityOptions {
    /// Refuses a request for nothing that is looked for.
    pub(super) fn ensure_known(&self) -> Result<(), ApiError> {
        let known = |name: &String| DETECTED.iter().any(|known| known.eq_ignore_ascii_case(name));
        match self.detection_types.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let known = DETECTED.join(", ");
                Err(ApiError::invalid(format!("detection type {name:?} is none of {known}")))
            }
        }
    }
}

pub(super) async fn security(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<SecurityRequest>,
) -> Result<Json<SecurityResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    ensure_text(&request.text)?;
    let options = request.options.unwrap_or_default();
    options.ensure_known()?;
    let findings = ask(&live, &request.text, ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE }).await;
    respond(&options, findings, began).map(Json)
}

/// Puts an answer together from what was found.
pub(super) fn respond(
    options: &SecurityOptions,
    findings: Findings,
    began: Instant,
) -> Result<SecurityResponse, ApiError> {
    let risk = findings.jailbreak.unwrap_or(Err(Unknown::Unsupported)).map_err(ApiError::unknown)?;
    let threshold = options.sensitivity.threshold(risk.threshold);
    let is_jailbreak = risk.score >= threshold;
    let detected = if is_jailbreak { vec!["jailbreak"] } else { Vec::new() };
    Ok(SecurityResponse {
        is_jailbreak,
        risk_score: risk.score,
        detection_types: detected.clone(),
        confidence: if is_jailbreak { risk.score } else { 1.0 - risk.score },
        recommendation: if is_jailbreak { "block" } else { "allow" },
        reasoning: options.include_reasoning.then(|| reasoning(&risk, threshold, is_jailbreak)),
        worst_span: WorstSpan { start: risk.at.start, end: risk.at.end },
        patterns_detected: detected,
        processing_time_ms: millis_since(began),
    })
}

fn reasoning(risk: &Risk, threshold: f32, is_jailbreak: bool) -> String {
    let order = if is_jailbreak { "reaches" } else { "is below" };
    let (score, at) = (risk.score, &risk.at);
    format!("the worst part, bytes {}..{}, scores {score:.3}, which {order} {threshold:.3}", at.start, at.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(score: f32, options: &str) -> SecurityResponse {
        let options: SecurityOptions = serde_json::from_str(options).unwrap();
        let risk = Risk { score, threshold: 0.9, at: 3..9 };
        respond(&options, Findings { jailbreak: Some(Ok(risk)), ..Findings::default() }, Instant::now())
            .unwrap()
    }

    #[test]
    fn sensitivity_moves_the_threshold_of_the_policy() {
        for (sensitivity, below, above) in [("low", 0.94, 0.96), ("medium", 0.89, 0.9), ("high", 0.44, 0.46)]
        {
            let options = format!("{{\"sensitivity\":\"{sensitivity}\"}}");
            assert!(!verdict(below, &options).is_jailbreak, "{sensitivity}");
            let flagged = verdict(above, &options);
            assert_eq!((flagged.is_jailbreak, flagged.recommendation), (true, "block"), "{sensitivity}");
        }
        assert!(serde_json::from_str::<SecurityOptions>("{\"sensitivity\":\"extreme\"}").is_err());
    }

    #[test]
    fn a_verdict_says_how_sure_it_is_and_on_request_why() {
        let benign = verdict(0.1, "{\"include_reasoning\":true}");
        assert!((benign.confidence - 0.9).abs() < 1e-6);
        let why = "the worst part, bytes 3..9, scores 0.100, which is below 0.900";
        assert_eq!(benign.reasoning.as_deref(), Some(why));
        assert_eq!(benign.worst_span, WorstSpan { start: 3, end: 9 });
        assert_eq!(verdict(0.95, "{}").reasoning, None);
    }

    #[test]
    fn a_request_for_something_else_is_refused() {
        let options = |names: &str| serde_json::from_str::<SecurityOptions>(names).unwrap();
        assert!(options("{\"detection_types\":[\"Jailbreak\",\"manipulation\"]}").ensure_known().is_ok());
        assert!(options("{\"detection_types\":[\"malware\"]}").ensure_known().is_err());
    }
}
