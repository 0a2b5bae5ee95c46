//! Owns what is said of one finished request: the one value that the access log prints and the metrics count,
//! so that they always agree.
//!
//! Holds no prompt, no answer and no key.

use http::Method;
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
#[derive(Debug, Default, Clone)]
pub struct Asked {
    /// The HTTP method.
    pub method: Method,
    /// The path, without its query, cut at 256 bytes.
    pub path: String,
    /// The model as the client named it, cut at 256 bytes.
    pub requested_model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The body's length in bytes.
    pub request_bytes: usize,
}

/// What was decided about it, and why.
#[derive(Debug, Default, Clone)]
pub struct Chosen {
    /// The model that answers, a name of the policy.
    pub model: Option<String>,
    /// What the prompt is about.
    pub category: Option<String>,
    /// How sure that is, 0 to 1.
    pub confidence: Option<f32>,
    /// The share of the prompt's tokens that this was judged from, 0 to 1.
    pub coverage: Option<f32>,
    /// The decision that chose the model.
    pub decision: Option<String>,
    /// Why this model.
    pub reason: Option<&'static str>,
    /// Milliseconds in the classifier, its queue included.
    pub classify_ms: Option<f64>,
    /// Milliseconds of these in the classifier's queue.
    pub classify_queued_ms: Option<f64>,
    /// Tokens of the prompt that the classifier read.
    pub classify_tokens: Option<usize>,
    /// Windows that it cut them into.
    pub classify_windows: Option<usize>,
    /// Windows of these whose answers it had from earlier requests.
    pub classify_cached: Option<usize>,
    /// The pool that answered last.
    pub pool: Option<String>,
    /// The endpoint that answered last.
    pub endpoint: Option<SocketAddr>,
    /// The attempts made.
    pub tries: u32,
    /// What else there is to say, where there is anything.
    pub beside: Option<Box<Beside>>,
}

/// What is said of requests that meet more than a model's name: none of it is there for the others.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Beside {
    /// The user, as verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The list of decisions, if it is not the policy's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The decision's score, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The signals that matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Matched>,
    /// By what one of several models was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<&'static str>,
    /// Why this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm_reason: Option<&'static str>,
    /// Whether, and how hard, the model was told to reason: `off`, `low`, `medium` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<&'static str>,
    /// Whether the operator's system prompt went in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<bool>,
    /// What a guard refused the request for: `jailbreak` or `personal_data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<&'static str>,
    /// How probable an attack is that a guard noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jailbreak: Option<f32>,
    /// The kinds of personal data that a guard noticed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pii: Vec<String>,
    /// The guards that had no answer, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<(&'static str, &'static str)>,
    /// What the guard of answers did: `masked` or `cut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_guard: Option<&'static str>,
    /// How probable it is that the answer makes something up, where the guard of answers noticed that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hallucination: Option<f32>,
    /// Milliseconds in which the answer was held against what its model was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_ms: Option<f64>,
    /// Whether the answer needs facts, and nothing was there to hold it against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified_factual: Option<bool>,
    /// What the cache said: `hit`, `similar`, `followed`, `miss`, `bypass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// How like the kept prompt is, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_similarity: Option<f32>,
    /// The model that got a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// What the answer cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// In which currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// A signal that matched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matched {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its score, from 0 to 1.
    pub score: f32,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Answered {
    /// The status sent; 499 when the client left before there was one.
    pub status: u16,
    /// Where the answer came from.
    pub response_path: &'static str,
    /// The code of our own rejection, or `client_closed`.
    pub error: Option<&'static str>,
    /// The body's length in bytes.
    pub response_bytes: usize,
    /// Tokens of the prompt, as the upstream counted them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, as the upstream counted them.
    pub completion_tokens: Option<u64>,
    /// Tokens of the prompt that the upstream had cached.
    pub cached_tokens: Option<u64>,
    /// Milliseconds to the first byte of the answer's body.
    pub ttft_ms: Option<f64>,
    /// Milliseconds to the end.
    pub duration_ms: f64,
}

impl Chosen {
    /// What else there is to say, made where there was nothing yet.
    pub fn beside(&mut self) -> &mut Beside {
        self.beside.get_or_insert_default()
    }
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
