//! Sending a completion, whole or as a stream of events, and the faults that strike in between.
//! It refuses to know what a document or an event looks like.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;

use super::Faults;
use super::completion::Completion;
use super::connection::ResetHandle;
use super::request::{CompletionApi, Streaming};
use super::request_log::LogGuard;
use super::writer::{CompletionWriter, DONE};

/// A completion and the connection it goes to.
#[derive(Debug)]
pub(super) struct Responder {
    pub(super) completion: Completion,
    pub(super) writer: CompletionWriter,
    pub(super) faults: Faults,
    pub(super) reset: ResetHandle,
    pub(super) log: LogGuard,
}

impl Responder {
    /// Answers with a document once it is complete.
    pub(super) async fn whole(mut self) -> Response {
        self.completion.begin().await;
        while !self.completion.is_finished() {
            self.completion.step().await;
        }
        self.completion.end();
        let document = Bytes::from(self.writer.whole(&self.completion));
        if self.faults.reset_mid_stream.is_some() {
            return half_of(&document, self.reset);
        }
        self.log.complete();
        let mut response = Response::new(Body::from(document));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Answers with a stream whose head is sent at once.
    pub(super) fn stream(self) -> Response {
        let events = EventStream { responder: self, stage: StreamStage::Begin, sent: 0 };
        let events = stream::unfold(events, |mut events| async move {
            if let Some(event) = events.next().await {
                return Some((Ok::<_, Infallible>(event), events));
            }
            events.responder.log.complete();
            None
        });
        let mut response = Response::new(Body::from_stream(events));
        let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

#[derive(Debug, Clone, Copy)]
enum StreamStage {
    Begin,
    First,
    Further,
    Usage,
    Done,
    Over,
}

#[derive(Debug)]
struct EventStream {
    responder: Responder,
    stage: StreamStage,
    sent: usize,
}

impl EventStream {
    async fn next(&mut self) -> Option<Bytes> {
        let Responder { completion, writer, faults, reset, .. } = &mut self.responder;
        if faults.reset_mid_stream.is_some_and(|limit| self.sent >= limit) {
            reset.reset().await;
        }
        self.sent += 1;
        if matches!(self.stage, StreamStage::Begin) {
            completion.begin().await;
            self.stage = StreamStage::First;
            if completion.request.api == CompletionApi::Chat {
                return Some(writer.openings(completion).into());
            }
        }
        match self.stage {
            StreamStage::Begin | StreamStage::First => Some(self.token()),
            StreamStage::Further => {
                if let Some(stall) = faults.stall_mid_stream.filter(|_| completion.emitted() == 1) {
                    tokio::time::sleep(stall).await;
                }
                completion.step().await;
                Some(self.token())
            }
            StreamStage::Usage => {
                self.stage = StreamStage::Done;
                Some(writer.last(completion).into())
            }
            StreamStage::Done => {
                self.stage = StreamStage::Over;
                Some(Bytes::from_static(DONE.as_bytes()))
            }
            StreamStage::Over => None,
        }
    }

    fn token(&mut self) -> Bytes {
        let Responder { completion, writer, .. } = &mut self.responder;
        let events = writer.tokens(completion);
        self.stage = StreamStage::Further;
        if completion.is_finished() {
            completion.end();
            self.stage = if completion.request.streaming == Streaming::Plain {
                StreamStage::Done
            } else {
                StreamStage::Usage
            };
        }
        events.into()
    }
}

/// A response whose connection is reset amid its body.
fn half_of(document: &Bytes, reset: ResetHandle) -> Response {
    let length = HeaderValue::from(document.len());
    let half = document.slice(..document.len() / 2);
    let body = stream::unfold((Some(half), reset), |(half, reset)| async move {
        if half.is_none() {
            reset.reset().await;
        }
        half.map(|half| (Ok::<_, Infallible>(half), (None, reset)))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}
