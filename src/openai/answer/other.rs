//! Answers of APIs that generate no text.

use crate::Rejection;
use crate::sse::unnamed_event;

use super::LocalReply;
use super::content::{AnswerContent, AnswerStep};
use super::dialect::{AnswerDialect, StreamAssembler};
use super::ending::{CutAnswer, StreamEnding};

/// The answers of APIs that generate no text: every string in them is read, they are never collected, and what stands in
/// place of one is an error.
#[derive(Debug)]
pub(crate) struct OtherAnswers;

impl AnswerDialect for OtherAnswers {
    fn scan_event(&self, data: &[u8]) -> AnswerContent {
        AnswerContent::others(data)
    }

    fn scan_whole(&self, data: &[u8]) -> AnswerContent {
        AnswerContent::others(data).whole()
    }

    fn assembler(&self) -> Option<Box<dyn StreamAssembler>> {
        None
    }

    fn stream_of(&self, _whole: &[u8], _include_usage: bool, _now: u64) -> Option<Vec<u8>> {
        None
    }

    fn local_reply(&self, _reply: &LocalReply) -> Vec<u8> {
        Rejection::AnswerBlocked.body().to_vec()
    }

    fn local_reply_stream(&self, _reply: &LocalReply, _include_usage: bool) -> Vec<u8> {
        let mut event = Vec::new();
        unnamed_event(&mut event, &Rejection::AnswerBlocked.body());
        event
    }

    fn ending(&self) -> Box<dyn StreamEnding> {
        Box::new(ErrorEnding)
    }
}

/// Ends a stream with an error, as upstreams do.
#[derive(Debug)]
struct ErrorEnding;

impl StreamEnding for ErrorEnding {
    fn sent(&mut self, _step: &AnswerStep) {}

    fn write(&self, _cut: &CutAnswer<'_>, out: &mut Vec<u8>) {
        unnamed_event(out, &Rejection::AnswerBlocked.body());
    }
}
