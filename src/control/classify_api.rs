//! Owns the classify API on the operator's port, in the shapes of vLLM Semantic Router's, so that its clients, scripts
//! and dashboards find what they know.
//!
//! Answers from the live snapshot: its classifier, and its policy by the same plan as the proxy's. Changes nothing but
//! whether an engine sleeps.

mod batch;
mod combined;
mod engines;
mod envelope;
mod info;
mod intent;
mod pick;
mod pii;
mod routing;
mod security;
mod vectors;

use super::Admin;
use crate::classify::{ClassifyHeads, Findings};
use crate::snapshot::Snapshot;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
pub use engines::EngineClient;
use envelope::ApiError;
use std::time::{Duration, Instant};

/// The longest body, in bytes.
const MAX_BODY: usize = 10 << 20;

/// The most texts that one request may hold.
const MAX_TEXTS: usize = 100;

/// What a path is for.
struct ApiPath {
    method: &'static str,
    path: &'static str,
    description: &'static str,
}

/// Every path, for the index.
const PATHS: &[ApiPath] = &[
    path("GET", "/health", "Whether the API answers"),
    path("GET", "/api/v1", "This list"),
    path("POST", "/api/v1/classify/intent", "What a text is about, and where the policy sends it"),
    path("POST", "/api/v1/classify/pii", "Which personal data a text holds"),
    path("POST", "/api/v1/classify/security", "Whether a text attacks the model that reads it"),
    path("POST", "/api/v1/classify/combined", "All of these in one pass"),
    path("POST", "/api/v1/classify/batch", "One of these for up to 100 texts, as one tensor batch"),
    path("POST", "/api/v1/embeddings", "Texts as vectors of unit length"),
    path("POST", "/api/v1/similarity", "How alike two texts are"),
    path("POST", "/api/v1/similarity/batch", "Which candidates are most like a query"),
    path(
        "POST",
        "/api/v1/pick",
        "Which endpoint a chat completion would go to, and how every other one stands",
    ),
    path("GET", "/engines", "The endpoints of all pools, as the vLLM production stack lists its engines"),
    path("GET", "/is_sleeping", "Whether an engine sleeps (?id=)"),
    path("POST", "/sleep", "Puts an engine to sleep (?id=&level=), in a pool with `wake`"),
    path("POST", "/wake_up", "Wakes an engine (?id=), in a pool with `wake`"),
    path("GET", "/version", "The version of this process"),
    path("GET", "/info/models", "The models in memory"),
    path("GET", "/info/classifier", "What the classifier can do, by the policy in force"),
];

const fn path(method: &'static str, path: &'static str, description: &'static str) -> ApiPath {
    ApiPath { method, path, description }
}

/// The API's paths.
pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/health", get(info::health))
        .route("/api/v1", get(info::index))
        .route("/api/v1/classify/intent", post(intent::intent))
        .route("/api/v1/classify/pii", post(pii::pii))
        .route("/api/v1/classify/security", post(security::security))
        .route("/api/v1/classify/combined", post(combined::combined))
        .route("/api/v1/classify/batch", post(batch::batch))
        .route("/api/v1/embeddings", post(vectors::embeddings))
        .route("/api/v1/similarity", post(vectors::similarity))
        .route("/api/v1/similarity/batch", post(vectors::similarity_batch))
        .route("/api/v1/pick", post(pick::pick))
        .route("/engines", get(engines::engines))
        .route("/is_sleeping", get(engines::is_sleeping))
        .route("/sleep", post(engines::sleep))
        .route("/wake_up", post(engines::wake_up))
        .route("/version", get(engines::version))
        .route("/info/models", get(info::models))
        .route("/info/classifier", get(info::classifier))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Answers for a path that the operator's port does not have.
pub(super) async fn no_such_path(uri: Uri) -> Response {
    let message = format!("there is no {}; GET /api/v1 lists the paths", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
}

/// Answers for a path that takes another method.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}; GET /api/v1 lists the methods", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message).into_response()
}

/// Asks about one text within the policy's deadline.
async fn ask(live: &Snapshot, text: &str, questions: ClassifyHeads) -> Findings {
    live.classifier.classify(text, questions, deadline(live, 1)).await
}

/// Asks about several texts at once, as one batch.
async fn ask_all(live: &Snapshot, texts: &[String], questions: ClassifyHeads) -> Vec<Findings> {
    live.classifier.classify_all(texts, questions, deadline(live, texts.len())).await
}

/// The policy's deadline is one text's; a batch has as many of them as texts.
fn deadline(live: &Snapshot, texts: usize) -> Instant {
    Instant::now() + live.policy.classifier.deadline * u32::try_from(texts).unwrap_or(u32::MAX)
}

/// Refuses texts that are too many, or without anything in them.
fn ensure_texts(name: &str, texts: &[String]) -> Result<(), ApiError> {
    if texts.is_empty() {
        return Err(ApiError::invalid(format!("{name} array cannot be empty")));
    }
    if texts.len() > MAX_TEXTS {
        return Err(ApiError::invalid(format!(
            "{name} holds {} texts; at most {MAX_TEXTS} are taken",
            texts.len()
        )));
    }
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(place) => Err(ApiError::invalid(format!("{name}[{place}] cannot be empty"))),
        None => Ok(()),
    }
}

/// Refuses a text without anything in it.
fn ensure_text(text: &str) -> Result<(), ApiError> {
    if text.trim().is_empty() { Err(ApiError::invalid("text cannot be empty")) } else { Ok(()) }
}

/// Whole milliseconds since then, as the API counts them.
fn millis_since(began: Instant) -> u64 {
    let elapsed: Duration = began.elapsed();
    elapsed.as_millis() as u64
}
