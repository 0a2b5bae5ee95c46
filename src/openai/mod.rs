//! What the client wrote and what is answered: bytes in, bytes out, pure.
//!
//! Owns the API's paths, the reading and rewriting of request bodies, usage in answers, and rejections.
//! Refuses to know sockets, policies, pools and time.

pub mod assemble;
mod canonical;
pub mod change;
pub mod conversation;
pub mod fingerprint;
pub mod groundedness;
mod json;
mod message;
pub mod message_text;
mod object;
mod prompt;
mod redact;
pub mod rejection;
pub mod replay_stream;
pub mod reply;
pub mod request;
pub mod rewrite;
pub mod splice;
pub mod sse;
mod tail;
pub mod tools;
mod unescape;
pub mod usage;

pub use assemble::Assembler;
pub use change::{Change, SystemMode};
pub use conversation::MessageCounts;
pub use fingerprint::Fingerprint;
pub use groundedness::choice_texts;
pub use json::is_plain;
pub use message::Role;
pub use message_text::MessageText;
pub use redact::Replacement;
pub use rejection::{Fault, Rejection};
pub use replay_stream::stream_of;
pub use reply::{FinishReason, LocalReply};
pub use request::ChatRequest;
pub use rewrite::{AnswerRewriter, Channel, PendingText, RewriteLimits, TextId};
pub use splice::{Edit, splice};
pub use tools::Tool;
pub use usage::{Format, TokenUsage, UsageReader};

use http::Method;

/// What a request asks this API to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A JSON request that names its model and goes upstream.
    Infer(Api),
    /// `GET /v1/models`.
    ListModels,
    /// `GET /v1/models/{name}`; the name is percent-decoded and may contain slashes.
    GetModel(String),
}

/// The kinds of request that go upstream, each with a JSON body that names its model in `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/messages`, in Anthropic's shape
    Messages,
    /// `/v1/messages/count_tokens`, in Anthropic's shape
    CountTokens,
    /// `/v1/images/generations`
    Images,
    /// `/v1/audio/speech`
    Speech,
    /// `/v1/rerank`, `/v2/rerank` and `/rerank`
    Rerank,
    /// `/v1/score` and `/score`
    Score,
    /// `/classify`
    Classify,
    /// `/pooling`
    Pooling,
    /// `/tokenize`
    Tokenize,
    /// `/detokenize`
    Detokenize,
}

const PATHS: &[(&str, Api)] = &[
    ("/v1/chat/completions", Api::Chat),
    ("/v1/completions", Api::Completions),
    ("/v1/responses", Api::Responses),
    ("/v1/embeddings", Api::Embeddings),
    ("/v1/messages", Api::Messages),
    ("/v1/messages/count_tokens", Api::CountTokens),
    ("/v1/images/generations", Api::Images),
    ("/v1/audio/speech", Api::Speech),
    ("/v1/rerank", Api::Rerank),
    ("/v2/rerank", Api::Rerank),
    ("/rerank", Api::Rerank),
    ("/v1/score", Api::Score),
    ("/score", Api::Score),
    ("/classify", Api::Classify),
    ("/pooling", Api::Pooling),
    ("/tokenize", Api::Tokenize),
    ("/detokenize", Api::Detokenize),
];

const MODELS: &str = "/v1/models";

impl Operation {
    /// Finds the operation of a request line; `path` comes without its query.
    pub fn of(method: &Method, path: &str) -> Result<Self, Rejection> {
        let (operation, allowed) = Self::at(path)?;
        if method == allowed {
            return Ok(operation);
        }
        Err(Rejection::MethodNotAllowed { allowed })
    }

    /// Returns the word for this operation in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Infer(api) => api.name(),
            Self::ListModels => "list_models",
            Self::GetModel(_) => "get_model",
        }
    }

    fn at(path: &str) -> Result<(Self, &'static str), Rejection> {
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        if let Some((_, api)) = PATHS.iter().find(|(known, _)| *known == trimmed) {
            return Ok((Self::Infer(*api), "POST"));
        }
        let unknown = || Rejection::UnknownPath { path: path.to_owned() };
        match path.strip_prefix(MODELS).ok_or_else(unknown)? {
            "" | "/" => Ok((Self::ListModels, "GET")),
            rest => {
                let name = rest.strip_prefix('/').and_then(percent_decoded).ok_or_else(unknown)?;
                Ok((Self::GetModel(name), "GET"))
            }
        }
    }
}

impl Api {
    /// Returns the member of the body that says what a request is about.
    fn text_member(self) -> &'static str {
        match self {
            Self::Chat | Self::Messages | Self::CountTokens => "messages",
            Self::Completions | Self::Images | Self::Tokenize | Self::Detokenize => "prompt",
            Self::Responses | Self::Embeddings | Self::Speech | Self::Classify | Self::Pooling => "input",
            Self::Rerank => "query",
            Self::Score => "text_1",
        }
    }

    /// Returns the path that asks for it.
    pub fn path(self) -> &'static str {
        PATHS.iter().find(|(_, api)| *api == self).map_or("/", |(path, _)| path)
    }

    /// Returns the word for this kind in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Images => "images",
            Self::Speech => "speech",
            Self::Rerank => "rerank",
            Self::Score => "score",
            Self::Classify => "classify",
            Self::Pooling => "pooling",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
        }
    }
}

/// Decodes `%XX`; nothing if an escape is cut short, not hexadecimal, or the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Reads one hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Result<Operation, Rejection> {
        Operation::of(&Method::POST, path)
    }

    fn get(path: &str) -> Result<Operation, Rejection> {
        Operation::of(&Method::GET, path)
    }

    #[test]
    fn every_path_that_names_a_model_is_known() {
        assert_eq!(post("/v1/chat/completions"), Ok(Operation::Infer(Api::Chat)));
        assert_eq!(post("/v1/chat/completions/"), Ok(Operation::Infer(Api::Chat)));
        assert_eq!(post("/rerank"), Ok(Operation::Infer(Api::Rerank)));
        for (path, api) in PATHS {
            assert_eq!(post(path), Ok(Operation::Infer(*api)));
        }
    }

    #[test]
    fn a_model_is_asked_for_by_its_percent_decoded_name() {
        assert_eq!(get("/v1/models"), Ok(Operation::ListModels));
        assert_eq!(get("/v1/models/"), Ok(Operation::ListModels));
        assert_eq!(get("/v1/models/llama3-8b"), Ok(Operation::GetModel("llama3-8b".to_owned())));
        for path in ["/v1/models/meta%2Fllama%203", "/v1/models/meta/llama%203", "/v1/models/meta%2fllama 3"]
        {
            assert_eq!(get(path), Ok(Operation::GetModel("meta/llama 3".to_owned())));
        }
    }

    #[test]
    fn an_unknown_path_is_not_found_and_a_wrong_method_names_the_right_one() {
        for path in
            ["/", "", "/v1", "/v1/chat", "/v1/modelsx", "/v1/models/%zz", "/v1/models/%f", "/v1/models/%ff"]
        {
            assert_eq!(get(path), Err(Rejection::UnknownPath { path: path.to_owned() }));
        }
        assert_eq!(get("/v1/completions"), Err(Rejection::MethodNotAllowed { allowed: "POST" }));
        assert_eq!(post("/v1/models"), Err(Rejection::MethodNotAllowed { allowed: "GET" }));
    }
}
