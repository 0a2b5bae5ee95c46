//! The body of an answer, cut once into the pieces that all its readers take.
//!
//! Refuses to know what a piece says.

use crate::sse::{MAX_EVENT, OversizedEvent, SseFrame, SseSplitter};

/// How an answer's body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// Server-sent events.
    EventStream,
    /// Nothing that reports usage.
    Opaque,
}

impl Format {
    /// Reads a `content-type`.
    pub fn of(content_type: Option<&str>) -> Self {
        // As most upstreams write them.
        match content_type {
            Some("application/json") => return Self::Json,
            Some("text/event-stream; charset=utf-8") => return Self::EventStream,
            _ => {}
        }
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("text/event-stream") {
            Self::EventStream
        } else if essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json") {
            Self::Json
        } else {
            Self::Opaque
        }
    }
}

/// A piece of an answer's body.
#[derive(Debug, Clone, Copy)]
pub enum AnswerPiece<'a> {
    /// The next event of a stream.
    Event(SseFrame<'a>),
    /// An event of which nothing is read, because it is too long.
    Oversized,
    /// The next bytes of a document, cut anywhere.
    Bytes(&'a [u8]),
}

impl<'a> AnswerPiece<'a> {
    /// Takes an event, unless it is longer than [`MAX_EVENT`].
    pub(crate) fn event(frame: SseFrame<'a>) -> Self {
        Self::Event(frame).bounded()
    }

    /// Gives up an event that is longer than [`MAX_EVENT`].
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Event(frame) if frame.len() > MAX_EVENT => Self::Oversized,
            piece => piece,
        }
    }
}

/// Cuts an answer's body into pieces.
#[derive(Debug)]
pub enum AnswerSplitter {
    /// At its events.
    Stream(SseSplitter),
    /// Nowhere: a document's pieces are its chunks.
    Document,
}

impl AnswerSplitter {
    /// Starts an answer of whose events none longer than `max_event` bytes is held.
    pub fn new(format: Format, max_event: usize) -> Self {
        match format {
            Format::EventStream => Self::Stream(SseSplitter::new(max_event)),
            Format::Json | Format::Opaque => Self::Document,
        }
    }

    /// Takes the next chunk and hands over every piece that it completes.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(AnswerPiece<'_>)) {
        match self {
            Self::Stream(splitter) => splitter.feed(chunk, |frame| each(frame.into())),
            Self::Document => each(AnswerPiece::Bytes(chunk)),
        }
    }

    /// Ends the body and hands over what is left of it.
    pub fn finish(&mut self, mut each: impl FnMut(AnswerPiece<'_>)) {
        match self {
            Self::Stream(splitter) => splitter.finish(|frame| each(frame.into())),
            Self::Document => {}
        }
    }

    /// Says whether an unfinished event is longer than what is held of one.
    pub fn is_inside_oversized(&self) -> bool {
        matches!(self, Self::Stream(splitter) if splitter.is_inside_oversized())
    }

    /// Returns how many bytes of an unfinished event are held.
    pub fn held(&self) -> usize {
        match self {
            Self::Stream(splitter) => splitter.held(),
            Self::Document => 0,
        }
    }
}

impl<'a> From<Result<SseFrame<'a>, OversizedEvent>> for AnswerPiece<'a> {
    fn from(frame: Result<SseFrame<'a>, OversizedEvent>) -> Self {
        frame.map_or(Self::Oversized, Self::Event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_content_type() {
        assert_eq!(Format::of(Some("text/event-stream; charset=utf-8")), Format::EventStream);
        assert_eq!(Format::of(Some("Application/JSON")), Format::Json);
        assert_eq!(Format::of(Some("application/problem+json")), Format::Json);
        assert_eq!(Format::of(Some("audio/mpeg")), Format::Opaque);
        assert_eq!(Format::of(None), Format::Opaque);
    }
}
