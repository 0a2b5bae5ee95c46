//! The exchange's end of a session that replays its body.
//!
//! Refuses to know what is in the answer.

use super::super::answer::AnswerPipeline;
use super::super::deadline::Deadline;
use super::super::handover::{HELD, Handover, OPEN, RELEASED};
use super::super::keep_alive::KeepAlive;
use super::ReplaySession;
use super::sending::Sending;
use bytes::Bytes;
use http::Version;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::Sender;

/// What is known of an answer before it comes.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct ExpectedAnswer {
    /// Whether it may go through stages.
    pub(in crate::proxy) may_have_stages: bool,
    /// What keeps it open while its upstream is silent, if it is a stream.
    pub(in crate::proxy) keep_alive: &'static str,
}

/// The exchange's end of a [`ReplaySession`].
pub(in crate::proxy) struct ReplayHandle {
    handover: Arc<Handover>,
    is_installed: bool,
}

impl ReplayHandle {
    /// Replaces the session's downstream by one that replays `body` and watches `deadline`.
    pub(in crate::proxy) fn install(
        session: &mut Session,
        body: Bytes,
        deadline: Arc<Deadline>,
        answer: ExpectedAnswer,
    ) -> Self {
        let handover: Arc<Handover> = Arc::default();
        let blank = Box::new(ServerSession::new_custom(Box::new(())));
        let mut inner = std::mem::replace(&mut session.downstream_session, blank);
        let write_timeout = inner.get_write_timeout();
        inner.set_write_timeout(None);
        let replay = ReplaySession {
            inner: Some(inner),
            header: None,
            body,
            deadline,
            write_timeout,
            sending: Sending::FromBuffer,
            keep_alive: KeepAlive::new(answer.keep_alive),
            timer: None,
            handover: Arc::clone(&handover),
            awaits_pipeline: answer.may_have_stages,
            pipeline: None,
        };
        *session.downstream_session = ServerSession::new_custom(Box::new(replay));
        Self { handover, is_installed: true }
    }

    /// Has the body of the attempt that begins go out as its connection's version of HTTP takes it.
    pub(in crate::proxy) fn send_over(&self, version: Version) {
        self.handover.is_h2.store(version == Version::HTTP_2, Ordering::Relaxed);
    }

    /// Takes the way by which Pingora can be told something while it waits for the answer.
    pub(in crate::proxy) fn take_messages(&self, messages: Sender<Bytes>) {
        self.handover.lock().messages = Some(messages);
    }

    /// Whether the last event of a stream that goes through stages is written.
    pub(in crate::proxy) fn has_passed_end(&self) -> bool {
        self.handover.has_passed_end.load(Ordering::Relaxed)
    }

    /// Whether what the client has of a stream ends inside of an event.
    pub(in crate::proxy) fn is_inside_event(&self) -> bool {
        self.handover.lock().is_inside_event
    }

    /// Whether what the upstream sends from now on is held back.
    pub(in crate::proxy) fn hold(&self, is_held: bool) {
        self.handover.passage.store(if is_held { HELD } else { OPEN }, Ordering::Relaxed);
    }

    /// Sends the header of an answer that was held, before what comes next.
    pub(in crate::proxy) fn send_held(&self, header: ResponseHeader) {
        self.handover.lock().held_header = Some(Box::new(header));
        self.handover.passage.store(RELEASED, Ordering::Relaxed);
    }

    /// Puts the client's own session back: keep-alive and protocol-specific answers need it.
    pub(in crate::proxy) fn uninstall(&mut self, session: &mut Session) {
        if !std::mem::replace(&mut self.is_installed, false) {
            return;
        }
        *session.downstream_session = ServerSession::new_custom(Box::new(()));
        if let Some(client) = self.handover.lock().client.take() {
            session.downstream_session = client;
        }
    }

    /// Has the answer, whose header is about to be sent, go through its stages.
    pub(in crate::proxy) fn start_answer(&self, pipeline: Box<AnswerPipeline>) {
        self.handover.lock().pipeline = Some(pipeline);
    }

    /// Returns the answer's stages, once the session is undone.
    pub(in crate::proxy) fn into_pipeline(self) -> Option<Box<AnswerPipeline>> {
        self.handover.lock().pipeline.take()
    }
}
