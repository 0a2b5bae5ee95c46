//! Chat Completions by way of Responses: what OpenAI's older clients send, for upstreams that speak Responses alone.
//!
//! Refuses to know where the upstream is.

mod answer;
mod items;
mod parts;
mod request;
mod stream;

use crate::translate::{ApiTranslation, DialectWriter, TranslatedAnswer, UpstreamKind};
use crate::{Api, ChatRequest, Rejection};
use answer::ChatOfResponse;

/// Chat Completions as Responses.
#[derive(Debug)]
pub(super) struct ChatToResponses;

impl ApiTranslation for ChatToResponses {
    fn upstream(&self) -> Api {
        Api::Responses
    }

    fn request(&self, request: &ChatRequest, upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
        request::response(request, upstream)
    }

    fn answer(&self, request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter> {
        Box::new(ChatOfResponse::new(answer, request.wants_usage()))
    }
}
