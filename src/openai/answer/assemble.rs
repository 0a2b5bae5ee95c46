//! One whole answer out of an answer that comes in pieces.
//!
//! Owns what the end of a stream is, and the refusal of answers that were cut, failed or are too long. Refuses to
//! know what the answer is for, and to hold events: each is merged and forgotten.

use bytes::Bytes;

use crate::json::object::{is_object, non_null_member};
use crate::sse::SseFrame;
use crate::{Api, Format};

use super::AnswerPiece;
use super::dialect::StreamAssembler;

/// Puts an answer together from its pieces.
#[derive(Debug)]
pub struct Assembler {
    /// What has come so far; nothing if no answer will come of it.
    collected: Option<Collected>,
    max_bytes: usize,
}

#[derive(Debug)]
enum Collected {
    Document(Vec<u8>),
    Stream(Box<dyn StreamAssembler>),
}

impl Assembler {
    /// Starts an answer of at most `max_bytes`, as a whole; other APIs' streams are never put together.
    pub fn new(format: Format, api: Api, max_bytes: usize) -> Self {
        let collected = match format {
            Format::Json => Some(Collected::Document(Vec::new())),
            Format::EventStream => api.answers().assembler().map(Collected::Stream),
            Format::Opaque => None,
        };
        Self { collected, max_bytes }
    }

    /// Takes the next piece of the answer.
    pub fn take(&mut self, piece: AnswerPiece<'_>) {
        let is_taken = match (&mut self.collected, piece) {
            (Some(Collected::Document(body)), AnswerPiece::Bytes(bytes)) => {
                let fits = body.len() + bytes.len() <= self.max_bytes;
                if fits {
                    body.extend_from_slice(bytes);
                }
                fits
            }
            (Some(Collected::Stream(stream)), AnswerPiece::Event(frame)) => {
                merge(&mut **stream, frame, self.max_bytes)
            }
            _ => false,
        };
        if !is_taken {
            self.collected = None;
        }
    }

    /// Returns how many bytes of a document have come. Streams are put together as they come, to a small part of their
    /// bytes, and count for nothing.
    pub fn held(&self) -> usize {
        match &self.collected {
            Some(Collected::Document(body)) => body.len(),
            Some(Collected::Stream(_)) | None => 0,
        }
    }

    /// Returns the whole answer: one JSON object. Nothing if it broke off, reported an error, had an event longer than
    /// [`crate::sse::MAX_EVENT`], or is longer than allowed.
    pub fn finish(&mut self) -> Option<Bytes> {
        let whole = match self.collected.take()? {
            Collected::Document(body) => {
                (is_object(&body) && non_null_member(&body, "error").is_none()).then_some(body)
            }
            Collected::Stream(mut stream) => stream.whole(),
        };
        whole.filter(|whole| whole.len() <= self.max_bytes).map(Bytes::from)
    }
}

/// Says whether a whole answer of an API whose answers are texts has none, nor calls a tool.
pub fn is_empty_answer(answer: &[u8], api: Api) -> bool {
    api.generates_text() && api.answers().scan_whole(answer).is_empty()
}

/// Merges an event; false if it is no part of an answer.
fn merge(stream: &mut dyn StreamAssembler, frame: SseFrame<'_>, max_bytes: usize) -> bool {
    let Some(data) = frame.data() else {
        return true;
    };
    if *data == *b"[DONE]" {
        stream.done();
        return true;
    }
    is_object(&data) && non_null_member(&data, "error").is_none() && stream.merge(&data, max_bytes).is_ok()
}

#[cfg(test)]
mod tests;
