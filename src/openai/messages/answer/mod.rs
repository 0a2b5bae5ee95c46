//! Answers of `/v1/messages`, in Anthropic's shape: a message of blocks.
//!
//! Refuses to know other dialects.

mod assemble;
mod ending;
mod scan;
mod stream;

use crate::FinishReason;
use crate::answer::LocalReply;
use crate::answer::content::{AnswerContent, ContentScanner};
use crate::answer::dialect::{AnswerDialect, StreamAssembler};
use crate::answer::ending::StreamEnding;
use crate::json::object::{Object, array};
use crate::json::quoted;
use assemble::MessageAssembler;
use ending::MessageEnding;

/// The dialect of `/v1/messages`.
#[derive(Debug)]
pub(crate) struct MessageAnswers;

impl AnswerDialect for MessageAnswers {
    fn scan_event(&self, data: &[u8]) -> AnswerContent {
        scan::event(data)
    }

    fn scan_whole(&self, data: &[u8]) -> AnswerContent {
        let mut scanner = ContentScanner::new(data);
        scan::blocks(&mut scanner, 0);
        scanner.rest(0, 0, &["content"]);
        scanner.end("stop_reason", |finish| quoted(stop_reason(finish)));
        scanner.content.whole()
    }

    fn assembler(&self) -> Option<Box<dyn StreamAssembler>> {
        Some(Box::<MessageAssembler>::default())
    }

    fn stream_of(&self, whole: &[u8], _include_usage: bool, _now: u64) -> Option<Vec<u8>> {
        stream::write(whole)
    }

    fn local_reply(&self, reply: &LocalReply) -> Vec<u8> {
        let block = Object::default().text("type", "text").text("text", &reply.text).end();
        Object::default()
            .text("id", &format!("msg_{}", reply.id))
            .text("type", "message")
            .text("role", "assistant")
            .text("model", &reply.model)
            .raw("content", &array([block]))
            .text("stop_reason", stop_reason(reply.finish))
            .raw("stop_sequence", b"null")
            .raw("usage", b"{\"input_tokens\":0,\"output_tokens\":0}")
            .end()
    }

    fn ending(&self) -> Box<dyn StreamEnding> {
        Box::<MessageEnding>::default()
    }
}

/// Returns Anthropic's word in `stop_reason`.
fn stop_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ContentFilter => "refusal",
    }
}
