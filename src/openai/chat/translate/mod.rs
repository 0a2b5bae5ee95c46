//! Chat Completions by way of Anthropic's Messages: what OpenAI's clients send, for upstreams that speak Messages alone.
//!
//! Written for the version of 2023-06-01, which has sampling parameters. Refuses to know where the upstream is.

mod answer;
mod messages;
mod request;

use crate::translate::{ApiTranslation, DialectWriter, TranslatedAnswer, UpstreamKind};
use crate::{Api, ChatRequest, Rejection};
use answer::ChatWriter;

/// Chat Completions as Messages.
#[derive(Debug)]
pub(super) struct ChatToMessages;

impl ApiTranslation for ChatToMessages {
    fn upstream(&self) -> Api {
        Api::Messages
    }

    fn request(&self, request: &ChatRequest, _upstream: UpstreamKind) -> Result<Vec<u8>, Rejection> {
        request::messages(request)
    }

    fn answer(&self, request: &ChatRequest, answer: TranslatedAnswer<'_>) -> Box<dyn DialectWriter> {
        Box::new(ChatWriter::new(answer, request.wants_usage()))
    }
}
