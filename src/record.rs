//! Owns what is said of one finished request: the one value that the access log prints and the metrics count,
//! so that they always agree.
//!
//! Holds no prompt, no answer and no key.

use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// One finished request.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// The request's id, the client's own or made here.
    pub request_id: String,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// What was asked, and of whom.
    pub asked: Asked,
    /// What was decided, and why.
    pub chosen: Chosen,
    /// What came back.
    pub answered: Answered,
}

/// What the client asked.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Asked {
    /// The HTTP method.
    pub method: String,
    /// The path, without its query, cut at 256 bytes.
    pub path: String,
    /// The model as the client named it, cut at 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The body's length in bytes.
    pub request_bytes: usize,
}

/// What was decided about it, and why.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Chosen {
    /// The model that answers, a name of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the prompt is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// How sure that is, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// The share of the prompt's tokens that this was judged from, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f32>,
    /// The decision that chose the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Why this model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Milliseconds in the classifier, its queue included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify_ms: Option<f64>,
    /// Milliseconds of these in the classifier's queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify_queued_ms: Option<f64>,
    /// Tokens of the prompt that the classifier read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify_tokens: Option<usize>,
    /// Windows that it cut them into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify_windows: Option<usize>,
    /// Windows of these whose answers it had from earlier requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify_cached: Option<usize>,
    /// The pool that answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The endpoint that answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The attempts made.
    pub tries: u32,
}

/// What came of it.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Answered {
    /// The status sent; 499 when the client left before there was one.
    pub status: u16,
    /// Where the answer came from.
    pub response_path: &'static str,
    /// The code of our own rejection, or `client_closed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// The body's length in bytes.
    pub response_bytes: usize,
    /// Tokens of the prompt, as the upstream counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, as the upstream counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Tokens of the prompt that the upstream had cached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Milliseconds to the first byte of the answer's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Milliseconds to the end.
    pub duration_ms: f64,
}

/// A duration in milliseconds, to the microsecond.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_micros() as f64) / 1000.0
}

/// A text cut at 256 bytes, on a character boundary, as it may be logged.
pub fn bounded(text: &str) -> String {
    /// The most of a client's own words that a log line carries.
    const LIMIT: usize = 256;
    text[..text.floor_char_boundary(LIMIT)].to_owned()
}
