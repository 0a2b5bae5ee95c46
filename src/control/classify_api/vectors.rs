//! Owns `/api/v1/embeddings` and `/api/v1/similarity`: texts as vectors of unit length, and how close two of them are.

use super::envelope::{ApiError, JsonBody};
use super::info::answering;
use super::{Admin, ask_all, ensure_texts, millis_since};
use crate::classify::{ClassifyHead, ClassifyHeads, ModelInfo, Unknown};
use crate::snapshot::Snapshot;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use signalbox_kernels::dot;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Which model and how many of its dimensions; there is one answer, the loaded model's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EmbeddingModelChoice {
    model: String,
    dimension: usize,
    target_layer: usize,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// What chooses among the models of others; there is one here, so that they mean nothing.
const MEANINGLESS: [&str; 3] = ["quality_priority", "latency_priority", "sequence_length"];

#[derive(Deserialize)]
pub(super) struct EmbeddingRequest {
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    images: Vec<String>,
    #[serde(flatten)]
    choice: EmbeddingModelChoice,
}

#[derive(Serialize)]
pub(super) struct EmbeddingResponse {
    embeddings: Vec<EmbeddingResult>,
    total_count: usize,
    total_processing_time_ms: u64,
    avg_processing_time_ms: f64,
}

#[derive(Serialize)]
struct EmbeddingResult {
    text: String,
    modality: &'static str,
    embedding: Vec<f32>,
    dimension: usize,
    model_used: String,
    processing_time_ms: u64,
}

#[derive(Deserialize)]
pub(super) struct SimilarityRequest {
    #[serde(default)]
    text1: String,
    #[serde(default)]
    text2: String,
    #[serde(flatten)]
    choice: EmbeddingModelChoice,
}

#[derive(Serialize)]
pub(super) struct SimilarityResponse {
    model_used: String,
    similarity: f32,
    processing_time_ms: f64,
}

#[derive(Deserialize)]
pub(super) struct BatchSimilarityRequest {
    #[serde(default)]
    query: String,
    #[serde(default)]
    candidates: Vec<String>,
    /// How many candidates to name; all where it is 0.
    #[serde(default)]
    top_k: usize,
    #[serde(flatten)]
    choice: EmbeddingModelChoice,
}

#[derive(Serialize)]
pub(super) struct BatchSimilarityResponse {
    matches: Vec<Match>,
    total_candidates: usize,
    model_used: String,
    processing_time_ms: f64,
}

#[derive(Serialize)]
struct Match {
    index: usize,
    similarity: f32,
    text: String,
}

pub(super) async fn embeddings(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<EmbeddingRequest>,
) -> Result<Json<EmbeddingResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    if !request.images.is_empty() {
        return Err(ApiError::invalid("no loaded model embeds images"));
    }
    ensure_texts("texts", &request.texts)?;
    let model = request.choice.model(&live)?;
    let vectors = embed(&live, &request.texts, |place| ("texts", place)).await?;
    ensure_dimension(request.choice.dimension, &vectors)?;
    let (took, count) = (millis_since(began), request.texts.len());
    let each = request.texts.into_iter().zip(vectors).map(|(text, vector)| EmbeddingResult {
        text,
        modality: "text",
        dimension: vector.len(),
        embedding: vector.to_vec(),
        model_used: model.source.clone(),
        processing_time_ms: took / count as u64,
    });
    Ok(Json(EmbeddingResponse {
        embeddings: each.collect(),
        total_count: count,
        total_processing_time_ms: took,
        avg_processing_time_ms: took as f64 / count as f64,
    }))
}

pub(super) async fn similarity(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<SimilarityRequest>,
) -> Result<Json<SimilarityResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    let texts = [request.text1, request.text2];
    if let Some(place) = texts.iter().position(|text| text.trim().is_empty()) {
        return Err(ApiError::invalid(format!("text{} cannot be empty", place + 1)));
    }
    let model = request.choice.model(&live)?;
    let vectors = embed(&live, &texts, |place| ("texts", place)).await?;
    ensure_dimension(request.choice.dimension, &vectors)?;
    Ok(Json(SimilarityResponse {
        model_used: model.source,
        similarity: closeness(&vectors[0], &vectors[1]),
        processing_time_ms: precise_millis(began),
    }))
}

pub(super) async fn similarity_batch(
    State(admin): State<Admin>,
    JsonBody(request): JsonBody<BatchSimilarityRequest>,
) -> Result<Json<BatchSimilarityResponse>, ApiError> {
    let (began, live) = (Instant::now(), admin.live.load());
    if request.query.trim().is_empty() {
        return Err(ApiError::invalid("query cannot be empty"));
    }
    ensure_texts("candidates", &request.candidates)?;
    let model = request.choice.model(&live)?;
    let mut texts = request.candidates;
    let total_candidates = texts.len();
    texts.push(request.query);
    let place = |place| if place == total_candidates { ("query", 0) } else { ("candidates", place) };
    let vectors = embed(&live, &texts, place).await?;
    ensure_dimension(request.choice.dimension, &vectors)?;
    let query = &vectors[total_candidates];
    let compared = texts.into_iter().zip(&vectors).take(total_candidates).enumerate();
    let compared = compared.map(|(index, (text, vector))| {
        let similarity = closeness(query, vector);
        Match { index, similarity, text }
    });
    let mut matches: Vec<Match> = compared.collect();
    matches.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    if request.top_k > 0 {
        matches.truncate(request.top_k);
    }
    Ok(Json(BatchSimilarityResponse {
        matches,
        total_candidates,
        model_used: model.source,
        processing_time_ms: precise_millis(began),
    }))
}

impl EmbeddingModelChoice {
    /// Finds the model that embeds; refuses a choice that would not be followed.
    fn model(&self, live: &Snapshot) -> Result<ModelInfo, ApiError> {
        let models = live.classifier.models();
        let model = answering(&models, ClassifyHead::Embedding)
            .ok_or_else(|| ApiError::unknown(Unknown::Unsupported))?;
        let refused = |code, message: String| Err(ApiError::new(StatusCode::BAD_REQUEST, code, message));
        if !self.model.is_empty() && self.model != "auto" && self.model != model.source {
            let message =
                format!("model {:?} is not loaded; it is \"auto\" or {:?}", self.model, model.source);
            return refused("INVALID_MODEL", message);
        }
        if let Some(name) = self.others.keys().find(|name| !MEANINGLESS.contains(&name.as_str())) {
            return refused("INVALID_PARAMETER", format!("unknown field {name:?}"));
        }
        if self.target_layer != 0 {
            let message = "target_layer cannot be chosen with this model".to_owned();
            return refused("INVALID_PARAMETER", message);
        }
        Ok(model.clone())
    }
}

/// Refuses a length that the vectors do not have: cut off, they would mean something else.
fn ensure_dimension(asked: usize, vectors: &[Arc<[f32]>]) -> Result<(), ApiError> {
    match vectors.first().map(|vector| vector.len()) {
        Some(length) if asked != 0 && asked != length => {
            let message = format!("dimension is {length} with this model, not {asked}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, "INVALID_DIMENSION", message))
        }
        _ => Ok(()),
    }
}

/// Embeds texts as one batch; `place` names a text by its position.
async fn embed(
    live: &Snapshot,
    texts: &[String],
    place: impl Fn(usize) -> (&'static str, usize),
) -> Result<Vec<Arc<[f32]>>, ApiError> {
    let all = ask_all(live, texts, ClassifyHeads { embedding: true, ..ClassifyHeads::NONE }).await;
    let vectors = all.into_iter().enumerate().map(|(position, findings)| {
        let (name, place) = place(position);
        let vector = findings.embedding.unwrap_or(Err(Unknown::Unsupported));
        vector.map_err(|unknown| ApiError::unknown(unknown).of(name, place))
    });
    vectors.collect()
}

/// The cosine of vectors that have unit length.
fn closeness(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b).clamp(-1.0, 1.0)
}

fn precise_millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
