//! Answers of `/v1/responses`: a response of items, whose last event says everything again.
//!
//! Refuses to know other dialects.

mod ending;
mod scan;
mod stream;

use crate::FinishReason;
use crate::answer::LocalReply;
use crate::answer::content::{AnswerContent, ContentScanner, TextId};
use crate::answer::dialect::{AnswerDialect, StreamAssembler};
use crate::answer::ending::StreamEnding;
use crate::answer::merged::NotMergeable;
use crate::json::object::{Object, array, non_null_member, string_member};
use crate::json::quoted;
use ending::ResponseEnding;

/// The dialect of `/v1/responses`.
#[derive(Debug)]
pub(crate) struct ResponseAnswers;

impl AnswerDialect for ResponseAnswers {
    fn scan_event(&self, data: &[u8]) -> AnswerContent {
        scan::event(data)
    }

    fn scan_whole(&self, data: &[u8]) -> AnswerContent {
        let mut scanner = ContentScanner::new(data);
        scan::read_output(&mut scanner, 0, false);
        scanner.end("status", |finish| quoted(status(finish)));
        scanner.end("incomplete_details", incomplete_details);
        scanner.content.whole()
    }

    fn repeats_texts(&self) -> bool {
        true
    }

    fn choice_of(&self, _text: TextId) -> u32 {
        // All items are one answer.
        0
    }

    fn assembler(&self) -> Option<Box<dyn StreamAssembler>> {
        Some(Box::<ResponseAssembler>::default())
    }

    fn stream_of(&self, whole: &[u8], _include_usage: bool, _now: u64) -> Option<Vec<u8>> {
        stream::write(whole)
    }

    fn local_reply(&self, reply: &LocalReply) -> Vec<u8> {
        let part = Object::default().text("type", "output_text").text("text", &reply.text);
        let part = part.raw("annotations", b"[]").raw("logprobs", b"[]").end();
        let item = Object::default()
            .text("type", "message")
            .text("id", &format!("msg_{}", reply.id))
            .text("status", status(reply.finish))
            .text("role", "assistant")
            .raw("content", &array([part]));
        Object::default()
            .text("id", &format!("resp_{}", reply.id))
            .text("object", "response")
            .number("created_at", reply.created)
            .text("status", status(reply.finish))
            .raw("error", b"null")
            .raw("incomplete_details", &incomplete_details(reply.finish))
            .raw("instructions", b"null")
            .raw("metadata", b"{}")
            .text("model", &reply.model)
            .raw("output", &array([item.end()]))
            .raw("parallel_tool_calls", b"true")
            .text("tool_choice", "auto")
            .raw("tools", b"[]")
            .raw("temperature", b"null")
            .raw("top_p", b"null")
            .raw("usage", NO_TOKENS)
            .end()
    }

    fn ending(&self) -> Box<dyn StreamEnding> {
        Box::<ResponseEnding>::default()
    }
}

const NO_TOKENS: &[u8] = b"{\"input_tokens\":0,\"input_tokens_details\":{\"cached_tokens\":0},\
    \"output_tokens\":0,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":0}";

/// Returns the reason in `incomplete_details`; nothing if the response is complete.
fn incomplete_reason(finish: FinishReason) -> Option<&'static str> {
    match finish {
        FinishReason::Stop => None,
        FinishReason::Length => Some("max_output_tokens"),
        FinishReason::ContentFilter => Some("content_filter"),
    }
}

fn status(finish: FinishReason) -> &'static str {
    if incomplete_reason(finish).is_some() { "incomplete" } else { "completed" }
}

fn incomplete_details(finish: FinishReason) -> Vec<u8> {
    let reason = incomplete_reason(finish).map(|reason| Object::default().text("reason", reason).end());
    reason.unwrap_or_else(|| b"null".to_vec())
}

/// The response that the last event of a stream carries.
#[derive(Debug, Default)]
struct ResponseAssembler(Option<Vec<u8>>);

impl StreamAssembler for ResponseAssembler {
    fn merge(&mut self, data: &[u8], _max_bytes: usize) -> Result<(), NotMergeable> {
        match string_member(data, "type").as_deref() {
            Some("response.completed" | "response.incomplete") => {
                self.0 = Some(non_null_member(data, "response").ok_or(NotMergeable)?.to_vec());
                Ok(())
            }
            Some("response.failed" | "error") => Err(NotMergeable),
            _ => Ok(()),
        }
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        self.0.take()
    }
}
