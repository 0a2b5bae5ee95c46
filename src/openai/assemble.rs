//! One whole answer out of an answer that comes in chunks.
//!
//! Owns what the end of a stream is, and the refusal of answers that were cut, failed or are too long. Refuses to
//! know what the answer is for, and to hold events: each is merged and forgotten.

mod anthropic;
mod choices;
mod merged;

use bytes::Bytes;

use super::json::object::{is_object, non_null_member, string_member};
use super::sse::{Event, Events};
use super::{Api, Format};
use anthropic::MessageAssembler;
use choices::ChoicesAssembler;

/// Puts an answer together from its chunks, however they are cut.
#[derive(Debug)]
pub struct Assembler {
    source: Source,
    max_bytes: usize,
}

#[derive(Debug)]
enum Source {
    /// One JSON document.
    Whole(Vec<u8>),
    /// A stream and what it has said so far.
    Stream(Events, Box<Answer>),
    /// Nothing will come of it.
    Lost,
}

/// An answer under construction.
#[derive(Debug)]
enum Answer {
    ChoicesAssembler(ChoicesAssembler),
    MessageAssembler(MessageAssembler),
    /// The Responses API says everything again in its last event.
    Response(Option<Vec<u8>>),
    /// It failed, or is not one.
    Failed,
}

/// What keeps an event from being part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotMergeable;

impl Assembler {
    /// Starts an answer of at most `max_bytes`, as a whole; other APIs' streams are never put together.
    pub fn new(format: Format, api: Api, max_bytes: usize) -> Self {
        let stream = |answer| Source::Stream(Events::default(), Box::new(answer));
        let source = match (format, api) {
            (Format::Json, _) => Source::Whole(Vec::new()),
            (Format::EventStream, Api::Chat) => stream(Answer::ChoicesAssembler(ChoicesAssembler::of_chat())),
            (Format::EventStream, Api::Completions) => {
                stream(Answer::ChoicesAssembler(ChoicesAssembler::of_completions()))
            }
            (Format::EventStream, Api::Messages) => {
                stream(Answer::MessageAssembler(MessageAssembler::default()))
            }
            (Format::EventStream, Api::Responses) => stream(Answer::Response(None)),
            (Format::EventStream | Format::Opaque, _) => Source::Lost,
        };
        Self { source, max_bytes }
    }

    /// Takes the next bytes of the answer's body.
    pub fn feed(&mut self, chunk: &[u8]) {
        let max_bytes = self.max_bytes;
        match &mut self.source {
            Source::Whole(body) if body.len() + chunk.len() <= max_bytes => body.extend_from_slice(chunk),
            Source::Whole(_) => self.source = Source::Lost,
            Source::Stream(events, answer) => {
                events.feed(chunk, |event| answer.take(event, max_bytes));
                if events.skipped() > 0 || matches!(**answer, Answer::Failed) {
                    self.source = Source::Lost;
                }
            }
            Source::Lost => {}
        }
    }

    /// Ends the answer and returns it whole: one JSON object. Nothing if it broke off, reported an error, had an
    /// event longer than [`super::sse::MAX_EVENT`], or is longer than allowed.
    pub fn finish(&mut self) -> Option<Bytes> {
        let whole = match std::mem::replace(&mut self.source, Source::Lost) {
            Source::Whole(body) => {
                (is_object(&body) && non_null_member(&body, "error").is_none()).then_some(body)
            }
            Source::Stream(mut events, mut answer) => {
                events.finish(|event| answer.take(event, self.max_bytes));
                if events.skipped() > 0 { None } else { answer.whole() }
            }
            Source::Lost => None,
        };
        whole.filter(|whole| whole.len() <= self.max_bytes).map(Bytes::from)
    }
}

impl Answer {
    fn take(&mut self, event: Event<'_>, max_bytes: usize) {
        let Some(data) = event.data() else {
            return;
        };
        let taken = match self {
            Self::ChoicesAssembler(choices) if *data == *b"[DONE]" => {
                choices.done();
                Ok(())
            }
            _ if *data == *b"[DONE]" => Ok(()),
            _ if !is_object(&data) || non_null_member(&data, "error").is_some() => Err(NotMergeable),
            Self::ChoicesAssembler(choices) => choices.take(&data, max_bytes),
            Self::MessageAssembler(message) => message.take(&data, max_bytes),
            Self::Response(response) => last_of_response(&data, response),
            Self::Failed => Ok(()),
        };
        if taken.is_err() {
            *self = Self::Failed;
        }
    }

    fn whole(self) -> Option<Vec<u8>> {
        match self {
            Self::ChoicesAssembler(choices) => choices.whole(),
            Self::MessageAssembler(message) => message.whole(),
            Self::Response(response) => response,
            Self::Failed => None,
        }
    }
}

/// Keeps the response that the last event of a Responses stream carries.
fn last_of_response(data: &[u8], response: &mut Option<Vec<u8>>) -> Result<(), NotMergeable> {
    match string_member(data, "type").as_deref() {
        Some("response.completed" | "response.incomplete") => {
            *response = Some(non_null_member(data, "response").ok_or(NotMergeable)?.to_vec());
            Ok(())
        }
        Some("response.failed" | "error") => Err(NotMergeable),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
