//! Owns what bodies and refusals look like: JSON in, and `{"error": {"code", "message", "timestamp"}}` out.

use crate::classify::Unknown;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::SystemTime;

/// When a client whom the classifier kept waiting may come back, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The classifier's own word, where it is the one that gave no answer.
    reason: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), reason: None }
    }

    /// What the client sent cannot be used.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_INPUT", message)
    }

    /// There is no answer to what was asked.
    pub(super) fn unknown(unknown: Unknown) -> Self {
        let (status, code, message) = match unknown {
            Unknown::Empty => (StatusCode::BAD_REQUEST, "INVALID_INPUT", "text cannot be empty"),
            Unknown::TooLong => (
                StatusCode::BAD_REQUEST,
                "TEXT_TOO_LONG",
                "the text has more tokens than are read, and what is not read might matter",
            ),
            Unknown::Unreadable => (
                StatusCode::BAD_REQUEST,
                "TEXT_UNREADABLE",
                "much of the text is in signs that the model does not know",
            ),
            Unknown::UnsupportedLanguage => (
                StatusCode::BAD_REQUEST,
                "UNSUPPORTED_LANGUAGE",
                "the text is in a language that no loaded model for this reads",
            ),
            Unknown::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "CLASSIFIER_BUSY",
                "too many texts wait for the classifier; retry later",
            ),
            Unknown::Late => (
                StatusCode::SERVICE_UNAVAILABLE,
                "TIMEOUT_ERROR",
                "the classifier did not answer within the policy's deadline; retry later",
            ),
            Unknown::Unsupported => (
                StatusCode::SERVICE_UNAVAILABLE,
                "MODEL_NOT_LOADED",
                "no loaded model answers this; see GET /info/models",
            ),
            Unknown::Failed => {
                (StatusCode::INTERNAL_SERVER_ERROR, "CLASSIFICATION_ERROR", "classification failed")
            }
        };
        Self { status, code, message: message.to_owned(), reason: Some(unknown.as_str()) }
    }

    /// Says of which of several texts this is.
    pub(super) fn of(mut self, name: &str, place: usize) -> Self {
        self.message = format!("{name}[{place}]: {}", self.message);
        self
    }
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: &'a str,
    message: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let timestamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let Self { status, code, message, reason } = self;
        let error = ErrorDetail { code, message: &message, timestamp, reason };
        let mut response = (status, Json(ErrorEnvelope { error })).into_response();
        if matches!(reason, Some("busy" | "late")) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// A body of JSON, whatever its content type says.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let message = format!("request body too large: exceeds {} bytes", super::MAX_BODY);
                return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_BODY_TOO_LARGE", message);
            }
            ApiError::invalid("the request body could not be read")
        })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| ApiError::invalid(format!("failed to parse JSON: {error}")))
    }
}
