//! Owns `/api/v1/classify/batch`: one kind of answer for many texts, from one tensor batch.

use super::envelope::{ApiError, JsonBody};
use super::intent::probabilities;
use super::{Admin, ask_all, ensure_texts, millis_since};
use crate::classify::{ClassifyHeads, Findings, Unknown};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    texts: Option<Vec<String>>,
    #[serde(default)]
    task_type: String,
    options: Option<BatchOptions>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BatchOptions {
    /// Whether every label's probability is wanted, for `intent`.
    return_probabilities: bool,
    /// Below it an answer counts as unsure; the policy's least confidence when it is left out.
    confidence_threshold: Option<f32>,
}

#[derive(Serialize)]
pub(super) struct BatchResponse {
    results: Vec<BatchResult>,
    total_count: usize,
    processing_time_ms: u64,
    statistics: Statistics,
}

#[derive(Serialize)]
struct BatchResult {
    category: String,
    /// 0 where nothing was found that one could be sure of.
    confidence: f32,
    processing_time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<String, f32>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Statistics {
    category_distribution: BTreeMap<String, usize>,
    avg_confidence: f32,
    low_confidence_count: usize,
}

/// What is asked of every text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchTask {
    Intent,
    Pii,
    Security,
}

impl BatchTask {
    fn named(name: &str) -> Result<Self, ApiError> {
        match name {
            "" | "intent" => Ok(Self::Intent),
            "pii" => Ok(Self::Pii),
            "security" => Ok(Self::Security),
            other => {
                let message = format!("invalid task_type {other:?}; it is intent, pii or security");
                Err(ApiError::new(StatusCode::BAD_REQUEST, "INVALID_TASK_TYPE", message))
            }
        }
    }

    fn questions(self) -> ClassifyHeads {
        match self {
            Self::Intent => ClassifyHeads::DOMAIN,
            Self::Pii => ClassifyHeads { pii: true, ..ClassifyHeads::NONE },
            Self::Security => ClassifyHeads { jailbreak: true, ..ClassifyHeads::NONE },
        }
    }
}

pub(super) async fn batch(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<BatchRequest>,
) -> Result<Json<BatchResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    let texts = request.texts.ok_or_else(|| ApiError::invalid("texts field is required"))?;
    let task = BatchTask::named(&request.task_type)?;
    ensure_texts("texts", &texts)?;
    let options = request.options.unwrap_or_default();
    let all = ask_all(&live, &texts, task.questions()).await;
    let took = millis_since(began);
    let mut results = Vec::with_capacity(all.len());
    for (place, findings) in all.into_iter().enumerate() {
        let mut result = result(task, findings, options, live.classifier.labels())
            .map_err(|unknown| ApiError::unknown(unknown).of("texts", place))?;
        result.processing_time_ms = took / texts.len() as u64;
        results.push(result);
    }
    let least = options.confidence_threshold.unwrap_or(live.policy.classifier.min_confidence.fraction());
    Ok(Json(BatchResponse {
        total_count: results.len(),
        processing_time_ms: took,
        statistics: statistics(&results, least),
        results,
    }))
}

fn result(
    task: BatchTask,
    findings: Findings,
    options: BatchOptions,
    labels: &[Arc<str>],
) -> Result<BatchResult, Unknown> {
    let plain = |category: String, confidence: f32| BatchResult {
        category,
        confidence,
        processing_time_ms: 0,
        probabilities: None,
    };
    match task {
        BatchTask::Intent => {
            let label = findings.domain.unwrap_or(Err(Unknown::Unsupported))?;
            let probabilities = options.return_probabilities.then(|| probabilities(labels, &label));
            Ok(BatchResult { probabilities, ..plain(label.name.to_string(), label.confidence) })
        }
        BatchTask::Security => {
            let risk = findings.jailbreak.unwrap_or(Err(Unknown::Unsupported))?;
            Ok(if risk.is_jailbreak() {
                plain("jailbreak".to_owned(), risk.score)
            } else {
                plain("safe".to_owned(), 1.0 - risk.score)
            })
        }
        BatchTask::Pii => {
            let found = findings.pii.ok_or(Unknown::Unsupported)?.complete()?;
            let surest = found.iter().max_by(|a, b| a.confidence.total_cmp(&b.confidence));
            Ok(surest.map_or_else(
                || plain("no_pii".to_owned(), 0.0),
                |entity| plain(entity.kind.to_string(), entity.confidence),
            ))
        }
    }
}

fn statistics(results: &[BatchResult], least: f32) -> Statistics {
    let mut category_distribution = BTreeMap::new();
    for result in results {
        *category_distribution.entry(result.category.clone()).or_default() += 1;
    }
    let sure: Vec<f32> = results.iter().map(|result| result.confidence).filter(|sure| *sure > 0.0).collect();
    Statistics {
        category_distribution,
        avg_confidence: if sure.is_empty() { 0.0 } else { sure.iter().sum::<f32>() / sure.len() as f32 },
        low_confidence_count: sure.iter().filter(|confidence| **confidence < least).count(),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are computed exactly")]
mod tests {
    use super::*;

    #[test]
    fn statistics_count_what_there_is_to_be_sure_of() {
        let result = |category: &str, confidence| BatchResult {
            category: category.to_owned(),
            confidence,
            processing_time_ms: 0,
            probabilities: None,
        };
        let results = [result("no_pii", 0.0), result("AGE", 0.5), result("AGE", 1.0)];
        assert_eq!(
            statistics(&results, 0.7),
            Statistics {
                category_distribution: BTreeMap::from([("AGE".to_owned(), 2), ("no_pii".to_owned(), 1)]),
                avg_confidence: 0.75,
                low_confidence_count: 1,
            }
        );
        assert_eq!(statistics(&[], 0.7).avg_confidence, 0.0);
    }

    #[test]
    fn a_task_is_intent_unless_another_is_named() {
        assert_eq!(BatchTask::named(""), Ok(BatchTask::Intent));
        assert_eq!(BatchTask::named("pii"), Ok(BatchTask::Pii));
        assert!(BatchTask::named("fact").is_err());
    }
}
