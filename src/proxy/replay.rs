//! Owns the one trick that lets a body be read before the upstream is chosen: a downstream session that has
//! been read to its end, and replays the prepared bytes for every attempt, whatever their size.
//!
//! Pingora sends a body that `request_filter` has consumed only from its own retry buffer, which ends at
//! 64 KiB; a `Custom` session may hold any size. The trait is hidden upstream, hence the pinned version.
//! The session is also where the client's leaving is noticed while an upstream is awaited, so the upstream's
//! deadlines are kept here. Knows nothing of JSON, policies or pools.

use super::answer::{AnswerBuffer, AnswerPipeline, MAX_ANSWER};
use super::deadline::Deadline;
use crate::classify::Unknown;
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::custom::{CustomMessageWrite, server::Session as CustomSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

type Slot = Arc<Mutex<Option<Box<ServerSession>>>>;
type MessageReader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// Ends an exchange whose answer was cut.
pub(super) const CUT: ErrorType = ErrorType::Custom("AnswerCut");

/// Gives the client's own session back after [`install`].
pub(super) struct ReplayHandle(Slot);

/// A downstream session whose body is complete and can be sent any number of times.
struct Replay {
    inner: Option<Box<ServerSession>>,
    body: Bytes,
    deadline: Arc<Deadline>,
    /// How long a client may take to read what is written at once.
    write_timeout: Option<Duration>,
    /// Kept between waits: the proxy asks again after every chunk, and a new timer would cost as much as the chunk.
    timer: Option<DeadlineTimer>,
    slot: Slot,
    pipeline: Option<PipelineSlot>,
    /// What is held back of an answer that is to be judged as a whole.
    hold: AnswerBuffer,
}

/// Where what stands between answer and client is put, once the answer's header is there.
pub(super) type PipelineSlot = Arc<Mutex<Option<Box<AnswerPipeline>>>>;

/// A wait that ends when it is time to look at the deadline again.
///
/// Pingora's coarse timers (10 ms, shared by all that end together) cost a fraction of the runtime's, and leave
/// its event loop without a timeout to arm at every turn.
struct DeadlineTimer {
    at: Instant,
    sleep: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

thread_local! {
    /// Timers whose answers came in time: one that ends too early anew, which is rarer than an answer.
    static SPARE: RefCell<Vec<DeadlineTimer>> = const { RefCell::new(Vec::new()) };
}

impl DeadlineTimer {
    /// One that had rung already could not be polled again.
    const SHORTEST: Duration = Duration::from_millis(10);

    /// The longest wait: abandoned timers stay in memory until they end.
    const LONGEST: Duration = Duration::from_secs(10);

    /// The most that are kept by a thread.
    const SPARES: usize = 64;

    fn set(now: Instant, due: Instant) -> Self {
        let wait = due.saturating_duration_since(now).clamp(Self::SHORTEST, Self::LONGEST);
        let mut sleep = Box::pin(pingora_timeout::sleep(wait));
        // It counts from when it is first polled.
        let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        Self { at: now + wait, sleep }
    }

    /// Takes one that ends when it is due or before, set already where there is such a one.
    fn by(due: Instant) -> Self {
        let spare = SPARE.with_borrow_mut(|spare| spare.pop_if(|timer| timer.at <= due));
        spare.unwrap_or_else(|| Self::set(Instant::now(), due))
    }

    /// Keeps one that has not rung for the next answer.
    fn spare(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < Self::SPARES {
                spare.push(self);
            }
        });
    }
}

/// Replaces the session's downstream by one that replays `body` and watches `deadline`.
pub(super) fn install(
    session: &mut Session,
    body: Bytes,
    deadline: Arc<Deadline>,
    pipeline: Option<PipelineSlot>,
) -> ReplayHandle {
    let slot = Slot::default();
    let mut inner = std::mem::replace(&mut session.downstream_session, Box::new(placeholder()));
    let write_timeout = inner.get_write_timeout();
    inner.set_write_timeout(None);
    let replay = Replay {
        inner: Some(inner),
        body,
        deadline,
        write_timeout,
        timer: None,
        slot: Arc::clone(&slot),
        pipeline,
        hold: AnswerBuffer::default(),
    };
    *session.downstream_session = ServerSession::new_custom(Box::new(replay));
    ReplayHandle(slot)
}

/// Puts the client's own session back: keep-alive and protocol-specific answers need it.
pub(super) fn uninstall(session: &mut Session, handle: &ReplayHandle) {
    *session.downstream_session = placeholder();
    if let Some(inner) = handle.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        session.downstream_session = inner;
    }
}

fn placeholder() -> ServerSession {
    ServerSession::new_custom(Box::new(()))
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.spare();
        }
        let mut inner = self.inner.take();
        if let Some(inner) = &mut inner {
            inner.set_write_timeout(self.write_timeout);
        }
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = inner;
    }
}

impl Replay {
    fn inner(&self) -> &ServerSession {
        self.inner.as_deref().expect("the inner session leaves only on drop")
    }

    fn take_pipeline(&self) -> Option<Box<AnswerPipeline>> {
        self.pipeline.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_pipeline(&self, pipeline: Box<AnswerPipeline>) {
        if let Some(slot) = &self.pipeline {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipeline);
        }
    }

    /// Holds an answer back until it is whole, and judges it then; gives what may be sent now.
    async fn held(&mut self, pipeline: &mut AnswerPipeline, tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
        self.hold.take(tasks)?;
        if self.hold.is_whole() {
            let inner = self.inner.as_deref_mut().expect("the inner session leaves only on drop");
            let headers = tokio::select! {
                biased;
                headers = pipeline.judge() => headers,
                _left = inner.read_body_or_idle(true) => {
                    let gone = Error::explain(ErrorType::ConnectionClosed, "the client has gone");
                    return Err(gone.into_down());
                }
            };
            return self.hold.release(&headers);
        }
        if self.hold.bytes() > MAX_ANSWER {
            pipeline.give_up(Unknown::TooLong);
            return self.hold.release(&[]);
        }
        Ok(Vec::new())
    }

    /// Sends pieces of an answer through what stands between it and the client.
    async fn send_through(
        &mut self,
        mut pipeline: Box<AnswerPipeline>,
        tasks: Vec<HttpTask>,
    ) -> Result<bool> {
        let mut tasks = through(&mut pipeline, tasks).await;
        if pipeline.holds() {
            tasks = self.held(&mut pipeline, tasks).await?;
            if tasks.is_empty() {
                self.put_pipeline(pipeline);
                return Ok(false);
            }
        }
        let is_cut = pipeline.has_ended() && pipeline.did() == Some("cut");
        self.put_pipeline(pipeline);
        let done = self.write(tasks).await?;
        // The client has a whole answer; nothing but an error ends an upstream that says on, or says nothing.
        if is_cut { Error::e_explain(CUT, "the answer was cut") } else { Ok(done) }
    }

    /// Writes to the client, who may take a while to read it.
    async fn write(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let write_timeout = self.write_timeout;
        within_write_timeout(write_timeout, pin!(self.inner_mut().response_duplex_vec(tasks))).await
    }

    fn inner_mut(&mut self) -> &mut ServerSession {
        self.inner.as_deref_mut().expect("the inner session leaves only on drop")
    }
}

/// Waits for a write to end, within limits. The write stays where it is: it is large, and there is one for every chunk.
async fn within_write_timeout<T>(
    write_timeout: Option<Duration>,
    mut writing: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
) -> Result<T> {
    // Most writes are done at once, and cheaper than a timer.
    match (futures::poll!(writing.as_mut()), write_timeout) {
        (Poll::Ready(written), _) => written,
        (Poll::Pending, None) => writing.await,
        (Poll::Pending, Some(write_timeout)) => {
            pingora_timeout::timeout(write_timeout, writing).await.unwrap_or_else(|_elapsed| {
                Err(Error::explain(ErrorType::WriteTimedout, "the client does not read").into_down())
            })
        }
    }
}

/// Sends the pieces of an answer through what stands between it and the client.
async fn through(pipeline: &mut AnswerPipeline, tasks: Vec<HttpTask>) -> Vec<HttpTask> {
    let mut passed = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (data, end) = match task {
            HttpTask::Body(data, end) => (data.unwrap_or_default(), end),
            HttpTask::Trailer(_) | HttpTask::Done => (Bytes::new(), true),
            other => {
                passed.push(other);
                continue;
            }
        };
        if pipeline.has_ended() {
            continue;
        }
        let piece = pipeline.pass(data, end).await;
        // An empty piece would end a chunked body.
        if !piece.bytes.is_empty() || piece.is_last {
            passed.push(HttpTask::Body(Some(piece.bytes), piece.is_last));
        }
    }
    passed
}

#[async_trait]
impl CustomSession for Replay {
    fn is_body_done(&mut self) -> bool {
        true
    }

    fn is_body_empty(&mut self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        Some(self.body.clone())
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn enable_retry_buffering(&mut self) {}

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Ends when the client leaves or the upstream's deadline passes; the body itself was read before.
    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        let inner = self.inner.as_deref_mut().expect("the inner session leaves only on drop");
        let Some(due) = self.deadline.due() else { return inner.read_body_or_idle(true).await };
        let timer = match &mut self.timer {
            Some(timer) if timer.at <= due => timer,
            other => other.insert(DeadlineTimer::by(due)),
        };
        loop {
            tokio::select! {
                biased;
                left = inner.read_body_or_idle(true) => return left,
                () = timer.sleep.as_mut() => {}
            }
            let now = Instant::now();
            match self.deadline.due() {
                Some(due) if due > now => *timer = DeadlineTimer::set(now, due),
                _ => {
                    self.timer = None;
                    return Error::e_explain(ErrorType::ReadTimedout, "the upstream's deadline has passed");
                }
            }
        }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, response: Box<ResponseHeader>, _end: bool) -> Result<()> {
        let write_timeout = self.write_timeout;
        within_write_timeout(write_timeout, pin!(self.inner_mut().write_response_header(response))).await
    }

    async fn write_response_header_ref(&mut self, response: &ResponseHeader, _end: bool) -> Result<()> {
        let write_timeout = self.write_timeout;
        within_write_timeout(write_timeout, pin!(self.inner_mut().write_response_header_ref(response))).await
    }

    async fn write_body(&mut self, mut data: Bytes, mut end: bool) -> Result<()> {
        if let Some(mut pipeline) = self.take_pipeline() {
            let passed = pipeline.pass(data, end).await;
            self.put_pipeline(pipeline);
            (data, end) = (passed.bytes, passed.is_last);
        }
        let write_timeout = self.write_timeout;
        within_write_timeout(write_timeout, pin!(self.inner_mut().write_response_body(data, end))).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let write_timeout = self.write_timeout;
        within_write_timeout(write_timeout, pin!(self.inner_mut().write_response_trailers(trailers))).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        match self.take_pipeline() {
            // Apart, and so out of the way of every answer that nothing stands before.
            Some(pipeline) => Box::pin(self.send_through(pipeline, tasks)).await,
            None => self.write(tasks).await,
        }
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner_mut().finish_body().await
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner_mut().shutdown().await;
    }

    fn req_header(&self) -> &RequestHeader {
        self.inner().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner_mut().req_header_mut()
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner().get_read_timeout()
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
        self.inner().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner().request_summary()
    }

    /// What is held back counts as written: no attempt follows one whose answer has begun.
    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner().response_written().or_else(|| self.hold.header())
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner().to_h1_raw()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
