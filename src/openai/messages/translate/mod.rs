//! Anthropic's Messages by way of Chat Completions: what Claude Code and Anthropic's SDKs send, for upstreams that speak
//! Chat alone.
//!
//! As vLLM translates it, which engines' users know. Refuses to know where the upstream is.

mod answer;
mod content;
mod parts;
mod request;
mod stream;
mod tools;

use crate::translate::{ApiTranslation, DialectWriter, TranslatedAnswer, UpstreamKind};
use crate::{Api, ChatRequest, Rejection};
use answer::{MessageWriter, TokenCountWriter};

/// Messages as Chat Completions.
#[derive(Debug)]
pub(super) struct MessagesToChat;

/// The counting of their tokens, as engines count those of a chat.
#[derive(Debug)]
pub(super) struct CountTokensToTokenize;

impl ApiTranslation for MessagesToChat {
    fn request(&self, request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
        request::chat(request, upstream)
    }

    fn answer(&self, request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter> {
        Box::new(MessageWriter::new(answer.model, estimated_tokens(request)))
    }
}

impl ApiTranslation for CountTokensToTokenize {
    fn upstream(&self) -> Api {
        Api::Tokenize
    }

    fn request(&self, request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
        request::tokenize(request, upstream)
    }

    fn answer(&self, _request: &ChatRequest, _answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter> {
        Box::new(TokenCountWriter)
    }
}

/// Bytes of a request per token, estimated.
const BYTES_PER_TOKEN: usize = 4;

/// What a stream's first event says of its prompt where the upstream does not say it in time; the last event has what the
/// upstream has counted.
fn estimated_tokens(request: &ChatRequest) -> u64 {
    request.body().len().div_ceil(BYTES_PER_TOKEN) as u64
}
