//! OpenAI's Responses by way of Chat Completions: what Codex and the Responses SDKs send, for upstreams that speak Chat
//! alone.
//!
//! Keeps nothing: what refers to a response whose items are not there is refused. Refuses to know where the upstream is.

mod answer;
mod frame;
mod items;
mod names;
mod request;
mod stream;
mod tools;

use crate::translate::{ApiTranslation, DialectWriter, TranslatedAnswer, UpstreamKind};
use crate::{Api, ChatRequest, Rejection};
use answer::{InputTokensWriter, ResponseWriter};

/// Responses as Chat Completions.
#[derive(Debug)]
pub(super) struct ResponsesToChat;

/// The counting of their tokens, as engines count those of a chat.
#[derive(Debug)]
pub(super) struct InputTokensToTokenize;

impl ApiTranslation for InputTokensToTokenize {
    fn upstream(&self) -> Api {
        Api::Tokenize
    }

    fn request(&self, request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
        request::tokenize(request, upstream)
    }

    fn answer(&self, _request: &ChatRequest, _answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter> {
        Box::new(InputTokensWriter)
    }
}

impl ApiTranslation for ResponsesToChat {
    fn request(&self, request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
        request::chat(request, upstream)
    }

    fn answer(&self, request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter> {
        Box::new(ResponseWriter::new(request, answer))
    }
}
