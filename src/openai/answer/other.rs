//! Answers of APIs that generate no text.

use crate::openai::chat::answer::ChatAnswers;

use super::LocalReply;
use super::content::AnswerContent;
use super::dialect::{AnswerDialect, StreamAssembler};
use super::ending::StreamEnding;

/// The answers of APIs that generate no text: read as chat answers where they look like such, and never collected.
#[derive(Debug)]
pub(in crate::openai) struct OtherAnswers;

impl AnswerDialect for OtherAnswers {
    fn scan_event(&self, data: &[u8]) -> AnswerContent {
        ChatAnswers.scan_event(data)
    }

    fn scan_whole(&self, data: &[u8]) -> AnswerContent {
        ChatAnswers.scan_whole(data)
    }

    fn assembler(&self) -> Option<Box<dyn StreamAssembler>> {
        None
    }

    fn stream_of(&self, _whole: &[u8], _include_usage: bool, _now: u64) -> Option<Vec<u8>> {
        None
    }

    fn local_reply(&self, reply: &LocalReply) -> Vec<u8> {
        ChatAnswers.local_reply(reply)
    }

    fn local_reply_stream(&self, reply: &LocalReply, include_usage: bool) -> Vec<u8> {
        ChatAnswers.local_reply_stream(reply, include_usage)
    }

    fn ending(&self) -> Box<dyn StreamEnding> {
        ChatAnswers.ending()
    }
}
