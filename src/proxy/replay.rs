//! A downstream session that has been read to its end, and replays the prepared body for every attempt: Pingora sends
//! a body that `request_filter` has consumed only from its own retry buffer, which ends at 64 KiB.
//!
//! The trait is hidden upstream, hence the pinned version. The session is also where the answer's stages stand, because
//! they wait (Pingora's body filter cannot), and where the client's leaving is noticed while an upstream is awaited, so
//! the upstream's deadlines are kept here. Knows nothing of JSON, policies or pools.

mod handle;
mod sending;

pub(super) use handle::{ExpectedAnswer, ReplayHandle};

use super::answer::AnswerPipeline;
use super::answer_tasks::{drop_held, hold, pass};
use super::client_watch;
use super::deadline::{Deadline, DeadlineState};
use super::failure::RequestFailure;
use super::handover::{HELD, Handover, OPEN};
use super::keep_alive::KeepAlive;
use super::slow_client::SlowClient;
use super::timer::DeadlineTimer;
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::{CustomMessageWrite, server::Session as CustomSession};
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use sending::{SendErrors, SendWatch, Sending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

type MessageReader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// Ends an exchange whose answer was cut.
pub(super) const CUT: ErrorType = ErrorType::Custom("AnswerCut");
/// Ends an attempt whose upstream's deadline has passed.
pub(super) const LATE: ErrorType = ErrorType::Custom("UpstreamLate");
/// Ends an attempt whose endpoint was taken out before its first byte.
pub(super) const TAKEN_OUT: ErrorType = ErrorType::Custom("EndpointTakenOut");

/// Ends an attempt whose first byte takes long, for another endpoint.
pub(super) const SLOW: ErrorType = ErrorType::Custom("EndpointSlow");

/// Ends an attempt whose prompt, computed at the same time elsewhere, is not.
pub(super) const PREFILL_FAILED: ErrorType = ErrorType::Custom("PrefillFailed");

/// A downstream session whose body is complete and can be sent any number of times.
struct ReplaySession {
    /// The client's own session; lent to the watch over the client as long as nothing is read from it or written.
    inner: Option<Box<ServerSession>>,
    /// The client's header, while its session is lent.
    header: Option<RequestHeader>,
    body: Bytes,
    sending: Sending,
    deadline: Arc<Deadline>,
    /// How long a client may take to read what is written at once.
    write_timeout: Option<Duration>,
    /// What is sent while the upstream is silent.
    keep_alive: KeepAlive,
    /// Kept between waits: the proxy asks again after every chunk, and a new timer would cost as much as the chunk.
    timer: Option<DeadlineTimer>,
    handover: Arc<Handover>,
    /// The answer's header is still to come, and may bring stages.
    awaits_pipeline: bool,
    pipeline: Option<Box<AnswerPipeline>>,
}

/// Has the client watched while the proxy waits for a connection.
pub(super) fn watch_client(session: &mut Session) {
    session.as_downstream_mut().enable_retry_buffering();
}

impl Drop for ReplaySession {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.spare();
        }
        self.take_back();
        let mut client = self.inner.take();
        if let Some(client) = &mut client {
            client.set_write_timeout(self.write_timeout);
        }
        let mut handover = self.handover.lock();
        handover.client = client;
        handover.is_inside_event = self.keep_alive.is_inside_event();
        if self.pipeline.is_some() {
            handover.pipeline = self.pipeline.take();
        }
    }
}

impl ReplaySession {
    /// Lends the client's session to the watch over the client, until anything is asked of it that its header does not say.
    fn lend(&mut self) {
        if !client_watch::is_on() {
            return;
        }
        if let Some(mut client) = self.inner.take() {
            let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
            self.header = Some(std::mem::replace(client.req_header_mut(), blank));
            client_watch::lend(client);
        }
    }

    fn take_back(&mut self) {
        if let Some(header) = self.header.take() {
            self.inner = client_watch::take_back();
            if let Some(client) = &mut self.inner {
                *client.req_header_mut() = header;
            }
        }
    }

    /// Takes over the answer's stages with its header.
    fn receive_pipeline(&mut self, tasks: &[HttpTask]) {
        let is_header = |task: &HttpTask| matches!(task, HttpTask::Header(header, _) if !header.status.is_informational());
        if tasks.iter().any(is_header) {
            self.awaits_pipeline = false;
            self.pipeline = self.handover.lock().pipeline.take();
        }
    }

    /// Puts the held header before the rest of its answer.
    fn release_held(&mut self, mut tasks: Vec<HttpTask>) -> Vec<HttpTask> {
        self.handover.passage.store(OPEN, Ordering::Relaxed);
        let header = self.handover.lock().held_header.take();
        // What came with it may be here still: the upstream's header, and the text that was taken out of its pieces.
        tasks.retain(|task| match task {
            HttpTask::Header(..) => false,
            HttpTask::Body(piece, is_last) => {
                *is_last || piece.as_ref().is_some_and(|piece| !piece.is_empty())
            }
            _ => true,
        });
        tasks.splice(0..0, header.map(|header| HttpTask::Header(header, false)));
        tasks
    }

    /// Sends a part of an answer through its stages.
    async fn send_through(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let Some(pipeline) = &mut self.pipeline else { return self.write(tasks).await };
        let began = Instant::now();
        let held_header = pipeline.holds_header();
        let mut tasks = pass(pipeline, tasks).await?;
        let is_held = held_header || pipeline.holds_header();
        if is_held {
            let client = self.inner.as_deref_mut().expect("the inner session leaves only on drop");
            tasks = hold(pipeline, client, tasks).await?;
        }
        self.deadline.postpone(began.elapsed());
        if is_held && tasks.is_empty() {
            return Ok(false);
        }
        let (is_cut, has_said_end) = (pipeline.is_cut(), pipeline.has_said_end());
        let done = self.write(tasks).await?;
        if has_said_end {
            self.handover.has_passed_end.store(true, Ordering::Relaxed);
        }
        // The client has a whole answer; only an error ends an upstream that sends more, or stays silent.
        if is_cut { Error::e_explain(CUT, "the answer was cut") } else { Ok(done) }
    }

    /// Writes to the client, who may take a while to read it.
    async fn write(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.keep_alive.note(&tasks)?;
        let (inner, client) = self.writer();
        client.within_limits(pin!(inner.response_duplex_vec(tasks))).await
    }

    /// Has the client watched where Pingora asks for it no more: the rest of the request was not taken.
    fn watch_unasked(&mut self) {
        if let Sending::Begun(_) = self.sending {
            self.lend();
        }
    }

    /// The client's session, and what bounds a write to it.
    fn writer(&mut self) -> (&mut ServerSession, SlowClient<'_>) {
        self.take_back();
        let inner = self.inner.as_deref_mut().expect("the inner session leaves only on drop");
        (inner, SlowClient { write_timeout: self.write_timeout, deadline: &self.deadline })
    }

    fn inner_mut(&mut self) -> &mut ServerSession {
        self.take_back();
        self.inner.as_deref_mut().expect("the inner session leaves only on drop")
    }
}

#[async_trait]
impl CustomSession for ReplaySession {
    fn is_body_done(&mut self) -> bool {
        !matches!(self.sending, Sending::Due)
    }

    fn is_body_empty(&mut self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        matches!(self.sending, Sending::FromBuffer).then(|| self.body.clone())
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    /// Called before the body is sent. Over HTTP/2 that may take long, and nothing is asked here before it is done.
    fn enable_retry_buffering(&mut self) {
        let is_h2 = self.handover.is_h2.load(Ordering::Relaxed);
        self.sending = if is_h2 { Sending::Due } else { Sending::FromBuffer };
        self.lend();
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Gives the body that was read before, where it is asked for here; then ends when the client leaves or the upstream's
    /// deadline passes.
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if let (Sending::Due, false) = (&self.sending, no_body_expected) {
            self.sending = Sending::Begun(self.handover.lock().messages.take().map(SendWatch::start));
            return Ok(Some(self.body.clone()));
        }
        self.sending = Sending::Done;
        self.take_back();
        let inner = self.inner.as_deref_mut().expect("the inner session leaves only on drop");
        let Some(look) = self.deadline.next_look() else { return inner.read_body_or_idle(true).await };
        let timer = match &mut self.timer {
            Some(timer) if timer.at <= look => timer,
            other => other.insert(DeadlineTimer::by(look)),
        };
        loop {
            tokio::select! {
                biased;
                left = inner.read_body_or_idle(true) => return left,
                () = timer.sleep.as_mut() => {}
            }
            let now = Instant::now();
            let (etype, why) = match self.deadline.look(now) {
                DeadlineState::Waiting(look) => {
                    *timer = DeadlineTimer::set(now, look);
                    // Boxed: keeps the future small, which is made for every chunk and seldom comes here.
                    Box::pin(self.keep_alive.look(now, self.deadline.next_look(), inner)).await?;
                    continue;
                }
                DeadlineState::Late => (LATE, "the upstream's deadline has passed"),
                DeadlineState::TakenOut => (TAKEN_OUT, "the endpoint was taken out"),
                DeadlineState::Slow => (SLOW, "the first byte takes long"),
                DeadlineState::PrefillFailed => (PREFILL_FAILED, "the prompt is not computed"),
                DeadlineState::SlowClient => (ErrorType::WriteTimedout, "the client took too long to read"),
            };
            self.timer = None;
            return Error::e_explain(etype, why);
        }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, response: Box<ResponseHeader>, _end: bool) -> Result<()> {
        let (inner, client) = self.writer();
        client.within_limits(pin!(inner.write_response_header(response))).await
    }

    async fn write_response_header_ref(&mut self, response: &ResponseHeader, _end: bool) -> Result<()> {
        let (inner, client) = self.writer();
        client.within_limits(pin!(inner.write_response_header_ref(response))).await
    }

    async fn write_body(&mut self, mut data: Bytes, mut end: bool) -> Result<()> {
        if let Some(pipeline) = &mut self.pipeline {
            let released = pipeline.pass(data, end).await.map_err(RequestFailure::of_answer)?;
            (data, end) = (released.bytes, released.is_last);
        }
        let (inner, client) = self.writer();
        client.within_limits(pin!(inner.write_response_body(data, end))).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let (inner, client) = self.writer();
        client.within_limits(pin!(inner.write_response_trailers(trailers))).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.take_back();
        if self.sending.answered(&self.deadline)? {
            // Pingora ends the client's connection after an answer that came before the request was taken.
            self.inner_mut().set_keepalive(None);
        }
        let tasks = match self.handover.passage.load(Ordering::Relaxed) {
            OPEN => tasks,
            HELD => {
                self.watch_unasked();
                return drop_held(tasks);
            }
            _ => self.release_held(tasks),
        };
        if self.awaits_pipeline {
            self.receive_pipeline(&tasks);
        }
        let done = if self.pipeline.is_some() {
            // Boxed: keeps the future small for answers without stages.
            Box::pin(self.send_through(tasks)).await
        } else {
            self.write(tasks).await
        };
        self.watch_unasked();
        done
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner_mut().finish_body().await
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner_mut().shutdown().await;
    }

    fn req_header(&self) -> &RequestHeader {
        match &self.header {
            Some(header) => header,
            None => self.inner.as_deref().expect("a session that is lent leaves its header").req_header(),
        }
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner_mut().req_header_mut()
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.as_deref()?.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.as_deref()?.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.as_deref().map(ServerSession::request_summary).unwrap_or_default()
    }

    /// What is held back counts as written: no attempt follows one whose answer has begun.
    fn response_written(&self) -> Option<&ResponseHeader> {
        let held = || self.pipeline.as_ref().and_then(|pipeline| pipeline.buffer.header());
        self.inner.as_deref().and_then(ServerSession::response_written).or_else(held)
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.as_deref().map_or(0, ServerSession::body_bytes_sent)
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.as_deref().map_or(0, ServerSession::body_bytes_read)
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.as_deref()?.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.as_deref()?.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.as_deref()?.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.as_deref().map(ServerSession::to_h1_raw).unwrap_or_default()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        Some(Box::new(futures::stream::empty()))
    }

    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        let is_h2 = self.handover.is_h2.load(Ordering::Relaxed);
        is_h2.then(|| Box::new(SendErrors) as Box<dyn CustomMessageWrite>)
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
