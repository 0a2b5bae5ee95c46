//! What a dialect's answers can be asked for.
//!
//! Refuses to know any dialect: each implements this in its own folder.

use std::fmt::Debug;

use super::LocalReply;
use super::content::{AnswerContent, TextId};
use super::ending::StreamEnding;
use super::merged::NotMergeable;

/// How the answers of one dialect are read and written.
pub(crate) trait AnswerDialect: Debug + Sync {
    /// Finds the texts in an event's data, which is a JSON object.
    fn scan_event(&self, data: &[u8]) -> AnswerContent;

    /// Finds the texts in a whole answer, which is a JSON object.
    fn scan_whole(&self, data: &[u8]) -> AnswerContent;

    /// Whether later events of a stream repeat the texts of earlier ones.
    fn repeats_texts(&self) -> bool {
        false
    }

    /// Returns the choice that a client sees a text in.
    fn choice_of(&self, text: TextId) -> u32 {
        text.choice
    }

    /// Starts to put a stream together; nothing for dialects whose streams are not collected.
    fn assembler(&self) -> Option<Box<dyn StreamAssembler>>;

    /// Writes a whole answer as a stream, all events at once; nothing for what is no answer of this dialect.
    fn stream_of(&self, whole: &[u8], include_usage: bool, now: u64) -> Option<Vec<u8>>;

    /// Writes an answer of our own, whole.
    fn local_reply(&self, reply: &LocalReply) -> Vec<u8>;

    /// Writes an answer of our own as a stream.
    fn local_reply_stream(&self, reply: &LocalReply, include_usage: bool) -> Vec<u8> {
        let whole = self.local_reply(reply);
        self.stream_of(&whole, include_usage, reply.created).expect("an answer of our own is well-formed")
    }

    /// Starts to follow a stream, so that it can be ended before its time.
    fn ending(&self) -> Box<dyn StreamEnding>;
}

/// A stream that is put together: each event is merged and forgotten.
pub(crate) trait StreamAssembler: Debug + Send + Sync {
    /// Merges an event's data, which is a JSON object, as long as no more than `max_bytes` are kept.
    fn merge(&mut self, data: &[u8], max_bytes: usize) -> Result<(), NotMergeable>;

    /// Notes the closing `[DONE]`.
    fn done(&mut self) {}

    /// Writes the whole answer; nothing if the stream did not come to its end.
    fn whole(&mut self) -> Option<Vec<u8>>;
}
