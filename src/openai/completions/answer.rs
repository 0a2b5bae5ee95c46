//! Answers of `/v1/completions`: choices with a text each.
//!
//! Refuses to know other dialects.

use crate::answer::LocalReply;
use crate::answer::content::AnswerContent;
use crate::answer::dialect::{AnswerDialect, StreamAssembler};
use crate::answer::ending::StreamEnding;
use crate::choices::{self, ChoicesAssembler, ChoicesEnding, NO_TOKENS};
use crate::json::object::{Object, array};

/// The dialect of `/v1/completions`.
#[derive(Debug)]
pub(crate) struct CompletionAnswers;

impl AnswerDialect for CompletionAnswers {
    fn scan_event(&self, data: &[u8]) -> AnswerContent {
        choices::scan(data)
    }

    fn scan_whole(&self, data: &[u8]) -> AnswerContent {
        choices::scan(data).whole()
    }

    fn assembler(&self) -> Option<Box<dyn StreamAssembler>> {
        Some(Box::new(ChoicesAssembler::of_completions()))
    }

    fn stream_of(&self, whole: &[u8], include_usage: bool, now: u64) -> Option<Vec<u8>> {
        choices::completion_stream(whole, include_usage, now)
    }

    fn local_reply(&self, reply: &LocalReply) -> Vec<u8> {
        let choice = Object::default()
            .number("index", 0)
            .text("text", &reply.text)
            .raw("logprobs", b"null")
            .text("finish_reason", reply.finish.name());
        reply.head("text_completion").raw("choices", &array([choice.end()])).raw("usage", NO_TOKENS).end()
    }

    fn ending(&self) -> Box<dyn StreamEnding> {
        Box::new(ChoicesEnding::of_completions())
    }
}
