//! Owns what a client sends before it is believed to be a request: each header is held until it is whole, within a time
//! and a size, and what is malformed is answered here.
//!
//! A connection that turns out to speak HTTP/2 is handed through after its preface. Knows nothing of what is asked.

mod closing_answer;
mod io;

use super::framing::{FramingFault, RequestFraming, Scanned};
use crate::openai::Rejection;
use crate::server_state::{BufferShare, ConnectionGuard, ForcedEnd};
use closing_answer::ClosingAnswer;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

pub(super) use closing_answer::response;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read at a time of a header that comes in pieces.
const PIECE: usize = 4 << 10;

/// What a client may use before its request is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderLimits {
    /// The longest header, in bytes.
    pub(super) bytes: usize,
    /// How long it may take, from its first byte; the first one from the connection on.
    pub(super) time: Duration,
    /// How long a connection may wait for its next request; nothing where others watch that.
    pub(super) idle: Option<Duration>,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// Its first bytes will tell.
    Unknown,
    Http1,
    /// HTTP/2, of which the preface is not whole yet.
    Http2Preface,
    Http2,
    /// Whatever the two ends of a WebSocket say: nothing is looked at any more.
    Tunnel,
}

/// A client's connection.
pub(super) struct ClientStream {
    inner: Stream,
    guard: ConnectionGuard,
    /// Carries the connection to the requests on it.
    digest: Arc<ProxyDigest>,
    limits: HeaderLimits,
    speech: Speech,
    framing: RequestFraming,
    /// What was read and not handed on.
    held: Vec<u8>,
    /// How much of `held`, from its first byte on, may be handed on.
    passes: usize,
    /// The bytes of `held`, as they count among all that are held.
    share: BufferShare,
    /// Whether no request has come yet.
    is_new: bool,
    timer: Option<Pin<Box<Sleep>>>,
    refusal: Option<ClosingAnswer>,
}

impl ClientStream {
    pub(super) fn new(
        inner: Stream,
        guard: ConnectionGuard,
        share: BufferShare,
        speech: Speech,
        limits: HeaderLimits,
    ) -> Self {
        let header = ResponseHeader::from(http::Response::new(()).into_parts().0);
        let connection = Box::new(Arc::clone(&guard.connection));
        let digest = Arc::new(ProxyDigest::new(Box::new(header), Some(connection)));
        Self {
            inner,
            guard,
            digest,
            limits,
            speech,
            framing: RequestFraming::default(),
            held: Vec::new(),
            passes: 0,
            share,
            is_new: true,
            timer: None,
            refusal: None,
        }
    }

    /// Whether the connection speaks HTTP/2, as soon as its first bytes tell; nothing if it ends before.
    async fn speaks_http2(&mut self) -> Option<bool> {
        std::future::poll_fn(|context| self.poll_detect(context))
            .await
            .then_some(self.speech != Speech::Http1)
    }

    /// Reads until it is known what the connection speaks; `false` if it ends before.
    fn poll_detect(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        while self.speech == Speech::Unknown {
            let known = self.held.len().min(PREFACE.len());
            if self.held[..known] != PREFACE[..known] {
                self.speech = Speech::Http1;
            } else if known == PREFACE.len() {
                self.speech = Speech::Http2Preface;
            } else if !matches!(ready!(self.poll_piece(context)), Ok(1..)) {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }

    /// Hands on what may be, once there is something; nothing at the end.
    fn poll_handed_on(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if !ready!(self.poll_detect(context)) {
            return Poll::Ready(Ok(()));
        }
        if self.guard.connection.is_tunnel() {
            self.begin_tunnel();
        }
        loop {
            if self.refusal.is_some() {
                return self.poll_refusal(context).map(Ok);
            }
            if self.passes == 0 && self.framing.is_broken() {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::InvalidData,
                    "the body's framing is malformed",
                )));
            }
            if self.passes > 0 {
                self.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            if self.held.is_empty() {
                let before = out.filled().len();
                let Poll::Ready(outcome) = Pin::new(&mut self.inner).poll_read(context, out) else {
                    return self.poll_end(context);
                };
                let fresh = &out.filled()[before..];
                if outcome.is_err() || fresh.is_empty() || self.takes_whole(fresh) {
                    return Poll::Ready(outcome);
                }
                self.held = fresh.to_vec();
                out.set_filled(before);
            }
            let is_stuck = !self.scan_held() && self.refusal.is_none() && !self.framing.is_broken();
            if is_stuck && ready!(self.poll_piece(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Hands on all that is held, and all that comes.
    fn begin_tunnel(&mut self) {
        if std::mem::replace(&mut self.speech, Speech::Tunnel) != Speech::Tunnel {
            self.passes = self.held.len();
            self.heard();
        }
    }

    /// Whether bytes can be handed on as they are, which most are: then they need not be held.
    fn takes_whole(&mut self, fresh: &[u8]) -> bool {
        let mut framing = self.framing;
        let is_whole = match self.speech {
            Speech::Http2 | Speech::Tunnel => return true,
            Speech::Http1 => framing
                .scan(fresh, self.limits.bytes)
                .is_ok_and(|scanned| scanned.origin.is_none() && scanned.passes == fresh.len()),
            Speech::Http2Preface | Speech::Unknown => false,
        };
        if is_whole {
            self.framing = framing;
            self.heard();
        } else if !self.is_new {
            // A header begins, or does: its time does too.
            self.timer = None;
        }
        is_whole
    }

    /// Looks at what is held; says whether some of it may be handed on.
    fn scan_held(&mut self) -> bool {
        if self.speech == Speech::Http2Preface {
            if self.held.len() >= PREFACE.len() {
                self.speech = Speech::Http2;
                self.passes = self.held.len();
                self.heard();
            }
            return self.passes > 0;
        }
        match self.framing.scan(&self.held, self.limits.bytes) {
            Ok(Scanned { passes, origin }) => {
                self.passes = passes;
                if let Some(Range { start, end }) = origin {
                    drop(self.held.splice(start..end, *b"/"));
                    self.passes = passes - (end - start) + 1;
                }
                if passes > 0 {
                    self.heard();
                }
            }
            Err(FramingFault::Head(fault)) => self.refuse(&fault.rejection(self.limits.bytes)),
            Err(FramingFault::Body) => {}
        }
        self.passes > 0
    }

    fn heard(&mut self) {
        self.is_new = false;
        self.timer = None;
    }

    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let taken = self.passes.min(out.remaining());
        out.put_slice(&self.held[..taken]);
        self.held.drain(..taken);
        self.passes -= taken;
        if self.held.is_empty() {
            self.held = Vec::new();
            self.share.release();
        }
    }

    /// Reads more behind what is held; 0 bytes at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<usize>> {
        let length = self.held.len();
        self.held.resize(length + PIECE, 0);
        let mut piece = ReadBuf::new(&mut self.held[length..]);
        let read = Pin::new(&mut self.inner).poll_read(context, &mut piece);
        let taken = piece.filled().len();
        self.held.truncate(length + taken);
        let Poll::Ready(outcome) = read else {
            return self.poll_end(context).map_ok(|()| 0);
        };
        if taken > 0 && self.share.grow_to(self.held.len()).is_err() {
            self.refuse(&Rejection::Overloaded { retry_after: Duration::from_secs(1) });
        }
        Poll::Ready(outcome.map(|()| taken))
    }

    /// Whether the connection ends while nothing comes: its time is up, or its place is needed.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let is_waiting = self.guard.connection.is_waiting();
        match self.guard.connection.poll_forced_end(context) {
            // Over HTTP/2 the streams of this connection could not be ended in their own words any more.
            Poll::Ready(ForcedEnd::ProcessEnds)
                if !is_waiting && matches!(self.speech, Speech::Http1 | Speech::Tunnel) =>
            {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the process ends")));
            }
            Poll::Ready(ForcedEnd::Silent) => {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the WebSocket is silent")));
            }
            Poll::Ready(ForcedEnd::Evicted) if self.guard.connection.may_go() => return Poll::Ready(Ok(())),
            Poll::Ready(ForcedEnd::ProcessEnds) if is_waiting => return Poll::Ready(Ok(())),
            Poll::Ready(_) | Poll::Pending => {}
        }
        let is_header_due = self.is_new || !self.held.is_empty();
        let limit = if is_header_due { Some(self.limits.time) } else { self.limits.idle };
        let Some(limit) = limit.filter(|_| is_waiting && self.awaits_header()) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(context));
        if !is_header_due {
            return Poll::Ready(Ok(()));
        }
        if self.held.is_empty() || self.speech != Speech::Http1 {
            self.guard.count_refusal(Rejection::SlowHeader.reason());
            return Poll::Ready(Ok(()));
        }
        self.refuse(&Rejection::SlowHeader);
        self.poll_refusal(context).map(Ok)
    }

    fn awaits_header(&self) -> bool {
        match self.speech {
            Speech::Unknown | Speech::Http2Preface => true,
            Speech::Http1 => self.framing.is_at_head(),
            Speech::Http2 | Speech::Tunnel => false,
        }
    }

    /// Answers here, and ends the connection.
    fn refuse(&mut self, rejection: &Rejection) {
        self.guard.count_refusal(rejection.reason());
        self.held = Vec::new();
        self.share.release();
        self.refusal = Some(ClosingAnswer::new(rejection));
    }

    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The answer to the request before it comes first.
        if !self.guard.connection.is_waiting() {
            return Poll::Pending;
        }
        self.refusal.as_mut().map_or(Poll::Ready(()), |refusal| refusal.poll(&mut self.inner, context))
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientStream").field("speech", &self.speech).finish_non_exhaustive()
    }
}
