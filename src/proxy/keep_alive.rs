//! Keeps a stream open whose upstream is silent, since proxies and clients on the way give up connections that are: what
//! its API has for that is sent between two events, every ten seconds or so.
//!
//! It neither moves the upstream's deadline nor counts as a byte of the answer. Refuses to know which API it is.

use crate::openai::Format;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorType, Result};
use std::time::{Duration, Instant};

/// How long a stream is silent at least before something is sent.
const SILENCE: Duration = Duration::from_secs(10);

/// What is known of an answer's silence.
pub(super) struct KeepAlive {
    /// What is sent.
    text: &'static str,
    state: StreamState,
    /// Since when nothing has come, and the deadline that stood then.
    quiet: Option<(Option<Instant>, Instant)>,
}

/// Where an answer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamState {
    /// It is no stream, or has not begun.
    NoStream,
    BetweenEvents,
    InsideEvent,
    /// What is sent here is being written; if that was broken off, it may be written in part.
    Writing,
}

impl KeepAlive {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, state: StreamState::NoStream, quiet: None }
    }

    /// Notes what is written to the client next; fails where what is written would not follow a whole event.
    pub(super) fn note(&mut self, tasks: &[HttpTask]) -> Result<()> {
        if self.state == StreamState::Writing {
            let error =
                Error::explain(ErrorType::WriteError, "the client did not take what kept its stream open");
            return Err(error.into_down());
        }
        for task in tasks {
            match task {
                HttpTask::Header(header, false) if !header.status.is_informational() => {
                    let content_type = header.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                    if Format::of(content_type) == Format::EventStream {
                        self.state = StreamState::BetweenEvents;
                    }
                }
                HttpTask::Body(Some(piece), _)
                    if self.state != StreamState::NoStream && !piece.is_empty() =>
                {
                    let is_whole =
                        [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"].iter().any(|end| piece.ends_with(end));
                    self.state = if is_whole { StreamState::BetweenEvents } else { StreamState::InsideEvent };
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether what the client has ends inside of an event.
    pub(super) fn is_inside_event(&self) -> bool {
        self.state == StreamState::InsideEvent
    }

    /// Sends something if the stream has been silent for long; `due` is the upstream's deadline, which each of its bytes
    /// moves.
    pub(super) async fn look(
        &mut self,
        now: Instant,
        due: Option<Instant>,
        client: &mut ServerSession,
    ) -> Result<()> {
        match self.quiet {
            Some((known, since)) if known == due => {
                if now.saturating_duration_since(since) < SILENCE || self.state != StreamState::BetweenEvents
                {
                    return Ok(());
                }
            }
            _ => {
                self.quiet = Some((due, now));
                return Ok(());
            }
        }
        self.quiet = Some((due, now));
        self.state = StreamState::Writing;
        let piece = HttpTask::Body(Some(Bytes::from_static(self.text.as_bytes())), false);
        client.response_duplex_vec(vec![piece]).await?;
        self.state = StreamState::BetweenEvents;
        Ok(())
    }
}
