//! A streamed answer: which event comes when, and the faults that come between.
//! It refuses to know what an event looks like.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;

use super::Faults;
use super::ask::{Kind, Streaming};
use super::connection::Cut;
use super::record::Open;
use super::run::Run;
use super::wire::{DONE, Envelope};

/// How long what was sent has to leave the buffers before a connection is cut.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

/// One answer being told.
#[derive(Debug)]
pub(super) struct Telling {
    /// The answer.
    pub(super) run: Run,
    /// Its bytes.
    pub(super) envelope: Envelope,
    /// What goes wrong on the way.
    pub(super) faults: Faults,
    /// The connection it goes to.
    pub(super) cut: Cut,
    /// The request's entry in the record.
    pub(super) open: Open,
}

impl Telling {
    /// Answers with a document once it is complete.
    pub(super) async fn whole(mut self) -> Response {
        self.run.begin().await;
        while !self.run.is_told() {
            self.run.step().await;
        }
        self.run.end();
        let document = Bytes::from(self.envelope.whole(&self.run));
        if self.faults.reset_mid_stream.is_some() {
            return half_of(&document, self.cut);
        }
        self.open.complete();
        let mut response = Response::new(Body::from(document));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Answers with a stream whose head is sent at once.
    pub(super) fn stream(self) -> Response {
        let told = Told { telling: self, stage: Stage::Begin, sent: 0 };
        let events = stream::unfold(told, |mut told| async move {
            if let Some(event) = told.next().await {
                return Some((Ok::<_, Infallible>(event), told));
            }
            told.telling.open.complete();
            None
        });
        let mut response = Response::new(Body::from_stream(events));
        let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Begin,
    First,
    Further,
    Usage,
    Done,
    Over,
}

#[derive(Debug)]
struct Told {
    telling: Telling,
    stage: Stage,
    sent: usize,
}

impl Told {
    async fn next(&mut self) -> Option<Bytes> {
        let Telling { run, envelope, faults, cut, .. } = &mut self.telling;
        if faults.reset_mid_stream.is_some_and(|limit| self.sent >= limit) {
            cut_off(cut).await;
        }
        self.sent += 1;
        if matches!(self.stage, Stage::Begin) {
            run.begin().await;
            self.stage = Stage::First;
            if run.ask.kind == Kind::Chat {
                return Some(envelope.openings(run).into());
            }
        }
        match self.stage {
            Stage::Begin | Stage::First => Some(self.token()),
            Stage::Further => {
                if let Some(stall) = faults.stall_mid_stream.filter(|_| run.told() == 1) {
                    tokio::time::sleep(stall).await;
                }
                run.step().await;
                Some(self.token())
            }
            Stage::Usage => {
                self.stage = Stage::Done;
                Some(envelope.last(run).into())
            }
            Stage::Done => {
                self.stage = Stage::Over;
                Some(Bytes::from_static(DONE.as_bytes()))
            }
            Stage::Over => None,
        }
    }

    fn token(&mut self) -> Bytes {
        let Telling { run, envelope, .. } = &mut self.telling;
        let events = envelope.tokens(run);
        self.stage = Stage::Further;
        if run.is_told() {
            run.end();
            self.stage = if run.ask.streaming == Streaming::Plain { Stage::Done } else { Stage::Usage };
        }
        events.into()
    }
}

fn half_of(document: &Bytes, cut: Cut) -> Response {
    let length = HeaderValue::from(document.len());
    let half = document.slice(..document.len() / 2);
    let body = stream::unfold((Some(half), cut), |(half, cut)| async move {
        if half.is_none() {
            cut_off(&cut).await;
        }
        half.map(|half| (Ok::<_, Infallible>(half), (None, cut)))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// Cuts the connection off; the future ends with it.
pub(super) async fn cut_off(cut: &Cut) {
    tokio::time::sleep(FLUSH_PAUSE).await;
    cut.cut();
    std::future::pending::<()>().await;
}
