//! Owns what of an upstream's answer is held back: an error while its text is read, since whether an engine is full or
//! broken only the text says, and the head of a stream until its first byte, since another endpoint can answer until then.
//! Decides nothing: the attempts do, by what this says of the failure.

use super::attempt_failure::AttemptFailure;
use crate::openai::Format;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use pingora::http::ResponseHeader;
use serde_json::Value;
use std::time::Duration;

/// The longest text that is held; that of an engine which refuses has less than three hundred bytes.
const MAX_TEXT: usize = 4 << 10;

/// How vLLM's admission control begins what it says (`--max-num-queued-reqs`, `--max-num-queued-tokens`, vLLM 0.32).
const SATURATED: [&str; 2] =
    ["The engine is currently busy", "The engine has reached its prefill token backlog limit"];

/// What of an answer is held back.
pub(super) enum HeldAnswer {
    Error(Box<HeldError>),
    /// The head of a stream that has given no byte yet.
    Head(Box<ResponseHeader>),
}

impl HeldAnswer {
    /// Holds the head of an answer if that is a stream of events.
    pub(super) fn head(header: &ResponseHeader) -> Option<Self> {
        let content_type = header.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        (Format::of(content_type) == Format::EventStream).then(|| Self::Head(Box::new(header.clone())))
    }
}

/// An error answer whose text is being read.
pub(super) struct HeldError {
    header: ResponseHeader,
    text: BytesMut,
    length: usize,
}

impl HeldError {
    /// Holds an answer if its text may say that the engine has too much to do: a short 503 in JSON that does not say when
    /// to come back.
    pub(super) fn of(header: &ResponseHeader, retry_after: Option<Duration>) -> Option<Box<Self>> {
        if header.status != StatusCode::SERVICE_UNAVAILABLE || retry_after.is_some() {
            return None;
        }
        let text = |name| header.headers.get(name).and_then(|value| value.to_str().ok());
        let is_json = Format::of(text(CONTENT_TYPE)) == Format::Json && text(CONTENT_ENCODING).is_none();
        let length = text(CONTENT_LENGTH)?.trim().parse().ok()?;
        (is_json && (1..=MAX_TEXT).contains(&length))
            .then(|| Box::new(Self { header: header.clone(), text: BytesMut::with_capacity(length), length }))
    }

    /// Takes a piece of the text; says whether it is whole.
    pub(super) fn take(&mut self, piece: &[u8]) -> bool {
        self.text.extend_from_slice(&piece[..piece.len().min(self.length - self.text.len())]);
        self.text.len() == self.length
    }

    /// What the answer says of the attempt, as far as it has come.
    pub(super) fn failure(&self) -> AttemptFailure {
        if is_saturated(&self.text) {
            AttemptFailure::Saturated
        } else {
            AttemptFailure::Status { status: self.header.status, retry_after: None }
        }
    }

    /// The status that it has.
    pub(super) fn status(&self) -> StatusCode {
        self.header.status
    }

    /// The answer, for the client.
    pub(super) fn into_parts(self) -> (ResponseHeader, Bytes) {
        (self.header, self.text.freeze())
    }
}

/// Whether an error's text is that of an engine which has too much to do, in OpenAI's shape or flat.
fn is_saturated(text: &[u8]) -> bool {
    let Ok(error) = serde_json::from_slice::<Value>(text) else { return false };
    let message = error["error"]["message"].as_str().or_else(|| error["message"].as_str());
    message.is_some_and(|message| SATURATED.iter().any(|start| message.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            header.insert_header(*name, *value).unwrap();
        }
        header
    }

    #[test]
    fn an_engine_that_is_full_is_known_by_its_words() {
        for (text, is_full) in [
            (r#"{"error":{"message":"The engine is currently busy. Retry.","type":"x","code":503}}"#, true),
            (r#"{"message":"The engine has reached its prefill token backlog limit (1)"}"#, true),
            (r#"{"error":{"message":"Loading model"}}"#, false),
            (r#"{"error":"The engine is currently busy"}"#, false),
            (r#"{"error":{"message":"The engine is currently busy"#, false),
            ("", false),
        ] {
            assert_eq!(is_saturated(text.as_bytes()), is_full, "{text}");
        }
    }

    #[test]
    fn only_a_short_503_in_json_is_held() {
        let json = ("content-type", "application/json");
        let held =
            |status, fields: &[(&'static str, &str)]| HeldError::of(&header(status, fields), None).is_some();
        assert!(held(503, &[json, ("content-length", "10")]));
        assert!(!held(500, &[json, ("content-length", "10")]));
        assert!(!held(503, &[json]));
        assert!(!held(503, &[json, ("content-length", "0")]));
        assert!(!held(503, &[json, ("content-length", "9999")]));
        let later = Some(Duration::from_secs(3));
        assert!(HeldError::of(&header(503, &[json, ("content-length", "10")]), later).is_none());
        assert!(!held(503, &[("content-type", "text/html"), ("content-length", "10")]));
        assert!(!held(503, &[json, ("content-length", "10"), ("content-encoding", "gzip")]));
    }

    #[test]
    fn a_text_is_whole_at_its_length() {
        let header = header(503, &[("content-type", "application/json"), ("content-length", "4")]);
        let mut held = HeldError::of(&header, None).unwrap();
        assert!(!held.take(b"{}"));
        assert!(held.take(b"  beyond"));
        assert_eq!(&*held.text, b"{}  ");
    }
}
