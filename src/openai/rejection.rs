//! Owns the errors that clients get: their status, OpenAI's `type` and `code`, and their message.
//!
//! Knows no addresses and no error chains, so that no message can leak them.

mod info;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use thiserror::Error;

use super::printable::printable;
use super::shed_reason::ShedReason;

/// Why a request is not served, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// No operation has this path.
    #[error("Unknown request URL: {}. See GET /v1/models and POST /v1/chat/completions.", printable(path))]
    UnknownPath {
        /// The path as the client wrote it.
        path: String,
    },
    /// No route of the listener matches the request.
    #[error("No route matches the request: its host, path, headers and model name none.")]
    NoRoute,
    /// The connection was made for a host that another listener has than the one that the request asks for.
    #[error("The request's host is served on connections made for it: connect again, with its name.")]
    Misdirected,
    /// The route's backend is not one that requests can be sent to.
    #[error("The request's route leads to a backend that is not there.")]
    InvalidBackend,
    /// The route leads to where models answer, whose requests are checked: this one is of no API that can be read.
    #[error("Only requests of an inference API go where this request's route leads: others are unchecked.")]
    UncheckedRequest,
    /// The path has the version twice, as where a base URL ends with it and its client adds it.
    #[error(
        "Unknown request URL: {}: it has `/v1` twice. Give the client a base URL that ends before `/v1`.",
        printable(path)
    )]
    DoubledPath {
        /// The path as the client wrote it.
        path: String,
    },
    /// The path is known, the method is not its own.
    #[error("Method not allowed; use {allowed}.")]
    MethodNotAllowed {
        /// The method to use, also the value of the `allow` header.
        allowed: &'static str,
    },
    /// A WebSocket is asked for where there is none.
    #[error("This path is not served over a WebSocket: POST it over HTTP.")]
    NoWebSocket,
    /// A page in a browser asks for a WebSocket that it may not have.
    #[error("Pages of this origin may open no WebSocket here: the server's `cors` does not name it.")]
    ForeignOrigin,
    /// There are as many WebSockets as there may be.
    #[error("There are as many WebSockets as there may be at one time. Please retry later.")]
    TooManyWebSockets,
    /// A guard would have to read what is said over a WebSocket.
    #[error(
        "What is said over a WebSocket cannot be judged by a guard, and the policy lets nothing pass without: set the \
         guard's `on_unknown: allow`, or a guard of the model's own."
    )]
    UnguardedWebSocket,
    /// What a server may keep beside models, and none here does.
    #[error("{} is not served here: no pool of the policy has `serves: [{family}]`.", printable(path))]
    NotServed {
        /// The path as the client wrote it.
        path: String,
        /// What a policy calls it.
        family: &'static str,
    },
    /// The body is no form that can be read in one way alone.
    #[error("The request body is not a valid form (multipart/form-data): {detail}.")]
    BadForm {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The policy changes what a form says, which is not done.
    #[error("The request is a form, and the policy changes what it says: send it without what is changed.")]
    FormUnchangeable,
    /// The body is not JSON.
    #[error("The request body is not valid JSON: {detail} at line {line}, column {column} (byte {byte}).")]
    BadJson {
        /// Line of the first fault, from 1.
        line: usize,
        /// Column of the first fault in characters, from 1.
        column: usize,
        /// Offset of the first fault in bytes, from 0.
        byte: usize,
        /// What is wrong there.
        detail: &'static str,
    },
    /// The body is JSON, but not an object.
    #[error("The request body must be a JSON object.")]
    NotAnObject,
    /// There is no `model`, or it is empty.
    #[error("You must provide a model parameter: `model` names a model; GET /v1/models lists the models.")]
    MissingModel,
    /// `model` is something other than text.
    #[error("Invalid type for `model`: expected a string.")]
    ModelNotString,
    /// A field appears twice in one object, so that two parsers could disagree about it.
    #[error("The field `{}` appears more than once.", printable(name))]
    DuplicateField {
        /// The field's name.
        name: String,
    },
    /// A field is written in other letters than the one that is read, which only some parsers tell apart.
    #[error("Unknown field `{}`: names are case-sensitive; write `{field}`.", printable(name))]
    MiscasedField {
        /// The field's name as the client wrote it.
        name: String,
        /// The field that it would be.
        field: &'static str,
    },
    /// No pool serves this model.
    ///
    /// In the words of the vLLM production stack's router, which scripts look for.
    #[error("Model '{}' not found. Available models can be listed at /v1/models.", printable(name))]
    UnknownModel {
        /// The model's name as the client wrote it.
        name: String,
    },
    /// The body is longer than allowed.
    #[error("The request body is larger than the limit of {limit} bytes.")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is compressed in a way that is not known.
    #[error(
        "The request body's `content-encoding` is not supported: use gzip, deflate, br or zstd, or none."
    )]
    UnsupportedCoding,
    /// The body is not compressed as its header says.
    #[error("The request body is not what its `content-encoding` says, or ended early.")]
    BadCoding,
    /// The body did not arrive in time.
    #[error("The request body did not arrive in time.")]
    SlowBody,
    /// The body broke off or its framing is wrong.
    #[error("The request body could not be read: its framing is broken or it ended early.")]
    BadFraming,
    /// The request's header is malformed, or could be read in two ways.
    #[error("The request's header could not be read: {detail}.")]
    BadHeader {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The request's header is longer than allowed.
    #[error("The request's header is larger than the limit of {limit} bytes, or has more than 256 fields.")]
    HeaderTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The request's header did not arrive in time.
    #[error("The request's header did not arrive in time.")]
    SlowHeader,
    /// The policy rejects what could not be classified.
    #[error(
        "The request could not be classified ({reason}), and the policy does not allow it to pass without."
    )]
    Unclassified {
        /// Why there is no label: a fixed word such as `timeout`.
        reason: &'static str,
        /// When to come back, where that may help.
        retry_after: Option<Duration>,
    },
    /// The client has no identity, and the policy requires one.
    #[error(
        "Incorrect API key provided, or none: this service wants `Authorization: Bearer KEY`, `x-api-key: KEY` or \
         `api-key: KEY`."
    )]
    Unidentified,
    /// A guard takes it for an attack on the model.
    #[error(
        "The request was refused: it appears to contain a jailbreak attempt or a prompt injection (confidence \
         {:.3}).",
        f64::from(*confidence_bp) / 10_000.0
    )]
    Jailbreak {
        /// How probable that is, in basis points.
        confidence_bp: u16,
    },
    /// A guard found personal data that must not be sent.
    #[error("The request was refused: it contains personal data ({}) that the policy does not allow.", kinds.join(", "))]
    PersonalData {
        /// The kinds that were found, such as `EMAIL_ADDRESS`.
        kinds: Vec<String>,
    },
    /// A guard had no result, and the policy rejects then.
    #[error(
        "The request could not be judged by a guard ({reason}), and the policy does not allow it to pass without."
    )]
    Unjudged {
        /// Why: a fixed word such as `late`.
        reason: &'static str,
        /// When to come back, where that may help.
        retry_after: Option<Duration>,
    },
    /// The policy has a fixed text for the request, whose API's answers are no texts.
    #[error("{text}")]
    FixedText {
        /// The operator's text.
        text: String,
    },
    /// A guard cannot read the upstream's answer, and the policy lets none pass without.
    #[error(
        "The model's answer could not be judged by a guard ({reason}), and the policy does not allow it to pass \
         without."
    )]
    AnswerUnjudged {
        /// Why: a fixed word such as `unsupported`.
        reason: &'static str,
    },
    /// A guard found something in an answer that cannot be cut short before it.
    #[error("The model's answer was refused: it contains what the policy does not allow.")]
    AnswerBlocked,
    /// The upstream speaks another API than the client, and has nothing for a part of the request.
    #[error("`{}` cannot be honoured: the model's server speaks another API, and {why}.", printable(place))]
    Untranslatable {
        /// The part's place in the request.
        place: String,
        /// Why.
        why: String,
    },
    /// The response that a request goes on from is not there.
    #[error(
        "The response `{}` that the request goes on from is not known here: the server that made it keeps it, for a while, or \
         where that keeps none this one does. Send the whole input instead of `previous_response_id`.",
        printable(id)
    )]
    PreviousResponseUnknown {
        /// The response's id.
        id: String,
    },
    /// A response that is asked for by its id was never kept, or is not any more.
    #[error(
        "No response `{}` is kept here: its time is over, or it was made with `store: false`.",
        printable(id)
    )]
    ResponseNotKept {
        /// The response's id.
        id: String,
    },
    /// Which server has a response that is asked for by its id is not known.
    #[error(
        "It is not known which server has the response `{}`: that is remembered for an hour, by the gateway that it came \
         through.",
        printable(id)
    )]
    ResponseOwnerUnknown {
        /// The response's id.
        id: String,
    },
    /// A response that is to be cancelled is over.
    #[error("The response `{}` cannot be cancelled: it is no background response.", printable(id))]
    NotInBackground {
        /// The response's id.
        id: String,
    },
    /// What came of the upstream is no answer of the API that it speaks.
    #[error("The model's server answered with what cannot be translated for this API.")]
    AnswerUntranslatable,
    /// The upstream answered with an error whose own text must not go out.
    #[error("The model's server answered with status {}.", status.as_u16())]
    UpstreamRefused {
        /// The upstream's status, which is the client's too.
        status: StatusCode,
        /// When to come back, if the upstream said so.
        retry_after: Option<Duration>,
    },
    /// A limit on buffered bytes or on requests in flight is reached.
    #[error("The service is overloaded. Please retry later.")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// The model's pool has too much to do, and the request may not wait, or has waited long enough.
    #[error("The model `{}` has too much to do at the moment ({}). Please retry later.", printable(model), reason.as_str())]
    Shed {
        /// The model's name.
        model: String,
        /// Why.
        reason: ShedReason,
        /// When there may be room.
        retry_after: Duration,
    },
    /// The process ends before the request has.
    #[error("The service is restarting, and the request took longer than it could wait. Please retry.")]
    ShuttingDown {
        /// When to come back.
        retry_after: Duration,
    },
    /// Every endpoint that could serve the model is down.
    ///
    /// In the same words as theirs for a model that is scaled to zero.
    #[error("Model '{}' is temporarily unavailable. Please try again later.", printable(model))]
    NoHealthyEndpoint {
        /// The model's name.
        model: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Every endpoint of the route's backend is down, or there is none.
    #[error("Nobody is there to answer where the request's route leads. Please try again later.")]
    NoBackendEndpoint {
        /// When to come back.
        retry_after: Duration,
    },
    /// The endpoint picker of the model's pool answered in an endpoint's place.
    #[error("The endpoint picker refused the request: {}", printable(text))]
    PickerRefused {
        /// The picker's status, which is the client's too.
        status: StatusCode,
        /// What the picker says of it.
        text: String,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// The endpoint picker of the model's pool could not be asked, or named no endpoint that is available.
    #[error("No endpoint could be picked for the request at the moment. Please retry later.")]
    PickerUnavailable {
        /// When to come back.
        retry_after: Duration,
    },
    /// No connection to the upstream could be made.
    #[error("The connection to the model's server failed.")]
    UpstreamConnect,
    /// The upstream broke off.
    #[error("The model's server closed the connection before its answer was complete.")]
    UpstreamReset,
    /// The upstream did not answer in time.
    #[error("The model's server did not answer in time.")]
    UpstreamTimeout,
    /// The prompt was computed by no server that the model's could go on from.
    #[error("No server could compute the prompt for the model's server. Please retry later.")]
    PrefillFailed,
    /// The upstream computes prompts and answers apart, which cannot be done with the request.
    #[error(
        "The model's servers compute prompts and answers apart: they take one prompt with one choice of \
         /v1/chat/completions or /v1/completions, without `echo`, beam search and log probabilities of the prompt."
    )]
    Indivisible,
    /// A bug.
    #[error("Internal error.")]
    Internal,
}

impl Rejection {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.info().status
    }

    /// The metric label: one fixed word a variant.
    pub fn reason(&self) -> &'static str {
        self.info().reason
    }

    /// OpenAI's `code`.
    pub fn code(&self) -> &'static str {
        self.info().code
    }

    /// OpenAI's `param`: the field of the request that is at fault.
    pub fn param(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::DuplicateField { name } | Self::MiscasedField { name, .. } => Some(printable(name)),
            Self::Untranslatable { place, .. } => Some(printable(place)),
            _ => self.info().param.map(Cow::Borrowed),
        }
    }

    /// OpenAI's `type`.
    pub fn kind(&self) -> &'static str {
        match self.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// When to come back, for the `retry-after` header.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after }
            | Self::Shed { retry_after, .. }
            | Self::ShuttingDown { retry_after }
            | Self::PickerUnavailable { retry_after }
            | Self::NoBackendEndpoint { retry_after }
            | Self::NoHealthyEndpoint { retry_after, .. } => Some(*retry_after),
            // What was tried elsewhere already is so for a moment.
            Self::UpstreamConnect | Self::UpstreamReset | Self::PrefillFailed => Some(Duration::from_secs(1)),
            Self::Unclassified { retry_after, .. }
            | Self::Unjudged { retry_after, .. }
            | Self::PickerRefused { retry_after, .. }
            | Self::UpstreamRefused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The value of the `allow` header that a 405 must have.
    pub fn allow(&self) -> Option<&'static str> {
        match self {
            Self::MethodNotAllowed { allowed } => Some(allowed),
            _ => None,
        }
    }

    /// The value of the `www-authenticate` header that a 401 of our own must have.
    pub fn challenge(&self) -> Option<&'static str> {
        matches!(self, Self::Unidentified).then_some("Bearer realm=\"signalbox\"")
    }

    /// The body: OpenAI's error object.
    pub fn body(&self) -> Bytes {
        Bytes::from(self.json())
    }

    fn json(&self) -> Vec<u8> {
        let (code, param) = (self.code(), self.param());
        let error = ErrorBody { message: self.to_string(), r#type: self.kind(), param, code };
        serde_json::to_vec(&ErrorEnvelope { error }).expect("strings always serialise")
    }
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: String,
    r#type: &'static str,
    param: Option<Cow<'a, str>>,
    code: &'static str,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn all() -> Vec<Rejection> {
        let retry_after = Duration::from_secs(2);
        vec![
            Rejection::UnknownPath { path: "/x".to_owned() },
            Rejection::NoRoute,
            Rejection::Misdirected,
            Rejection::InvalidBackend,
            Rejection::UncheckedRequest,
            Rejection::DoubledPath { path: "/v1/v1/messages".to_owned() },
            Rejection::MethodNotAllowed { allowed: "POST" },
            Rejection::BadJson { line: 1, column: 2, byte: 1, detail: "expected a value" },
            Rejection::NotAnObject,
            Rejection::MissingModel,
            Rejection::ModelNotString,
            Rejection::DuplicateField { name: "model".to_owned() },
            Rejection::MiscasedField { name: "Model".to_owned(), field: "model" },
            Rejection::UnknownModel { name: "gpt-9".to_owned() },
            Rejection::TooLarge { limit: 10 },
            Rejection::UnsupportedCoding,
            Rejection::BadCoding,
            Rejection::SlowBody,
            Rejection::BadFraming,
            Rejection::BadHeader { detail: "it is not one" },
            Rejection::HeaderTooLarge { limit: 10 },
            Rejection::SlowHeader,
            Rejection::ShuttingDown { retry_after },
            Rejection::Unclassified { reason: "timeout", retry_after: Some(retry_after) },
            Rejection::Unidentified,
            Rejection::Jailbreak { confidence_bp: 9876 },
            Rejection::PersonalData { kinds: vec!["PERSON".to_owned()] },
            Rejection::Unjudged { reason: "late", retry_after: Some(retry_after) },
            Rejection::FixedText { text: "We are closed.".to_owned() },
            Rejection::AnswerUnjudged { reason: "unsupported" },
            Rejection::AnswerBlocked,
            Rejection::Untranslatable { place: "tools.0".to_owned(), why: "there are none".to_owned() },
            Rejection::AnswerUntranslatable,
            Rejection::UpstreamRefused { status: StatusCode::UNAUTHORIZED, retry_after: None },
            Rejection::Overloaded { retry_after },
            Rejection::Shed { model: "m".to_owned(), reason: ShedReason::Saturated, retry_after },
            Rejection::NoHealthyEndpoint { model: "m".to_owned(), retry_after },
            Rejection::NoBackendEndpoint { retry_after },
            Rejection::PickerRefused {
                status: StatusCode::TOO_MANY_REQUESTS,
                text: "shed".to_owned(),
                retry_after: Some(retry_after),
            },
            Rejection::PickerUnavailable { retry_after },
            Rejection::UpstreamConnect,
            Rejection::UpstreamReset,
            Rejection::PrefillFailed,
            Rejection::Indivisible,
            Rejection::UpstreamTimeout,
            Rejection::Internal,
        ]
    }

    #[test]
    fn every_rejection_has_openais_shape_and_a_label_of_its_own() {
        let mut reasons = std::collections::HashSet::new();
        for rejection in all() {
            assert!(reasons.insert(rejection.reason()), "{rejection:?}");
            let body: Value = serde_json::from_slice(&rejection.body()).unwrap();
            assert_eq!(body["error"]["message"], rejection.to_string());
            assert_eq!(body["error"]["code"], rejection.code());
            assert_eq!(body["error"]["type"], rejection.kind());
            assert_eq!(body["error"].as_object().unwrap().len(), 4);
            // The same answer would be refused again.
            let is_judged = matches!(
                rejection,
                Rejection::AnswerUnjudged { .. } | Rejection::AnswerBlocked | Rejection::AnswerUntranslatable
            );
            let is_elsewhere = matches!(rejection.status().as_u16(), 429 | 502 | 503) && !is_judged;
            assert_eq!(rejection.retry_after().is_some(), is_elsewhere, "{rejection:?}");
        }
    }

    #[test]
    fn an_unknown_model_is_named_and_says_where_to_look() {
        let rejection = Rejection::UnknownModel { name: "gpt-9".to_owned() };
        let message = "Model 'gpt-9' not found. Available models can be listed at /v1/models.";
        let expected = json!({"error": {
            "message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}});
        assert_eq!(serde_json::from_slice::<Value>(&rejection.body()).unwrap(), expected);
        assert_eq!(rejection.status(), 404);
    }

    #[test]
    fn a_clients_text_is_quoted_bounded_and_without_control_characters() {
        let name = format!("a\r\n\u{1b}[31m{}", "é".repeat(10_000));
        let message = Rejection::UnknownModel { name }.to_string();
        assert!(message.contains("a\\r\\n\\u{1b}[31mé"), "{message}");
        assert!(message.chars().count() < super::super::printable::MAX_QUOTED_CHARS + 120);
        assert!(!message.chars().any(char::is_control));
    }
}
