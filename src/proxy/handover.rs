//! Owns what the exchange and the session in its client's place give each other.
//!
//! Shared, because Pingora owns the session as a trait object from which there is no way back to its type. It is locked
//! when the session is dropped and undone, and for an answer that may have stages once more at its header; never for
//! a chunk.

use super::answer::AnswerPipeline;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::Sender;

/// The answer goes to the client as it comes.
pub(super) const OPEN: u8 = 0;
/// Nothing of it does: it is an error that is read first.
pub(super) const HELD: u8 = 1;
/// It does again, with the header that was held.
pub(super) const RELEASED: u8 = 2;

/// The place of both.
#[derive(Default)]
pub(super) struct Handover {
    things: Mutex<HandedOver>,
    /// Set once the last event of a stream with stages is written.
    pub(super) has_passed_end: AtomicBool,
    /// Whether the answer goes to the client: [`OPEN`], [`HELD`] or [`RELEASED`].
    pub(super) passage: AtomicU8,
    /// Whether the current attempt's connection is HTTP/2.
    pub(super) is_h2: AtomicBool,
}

/// What changes hands, each thing once.
#[derive(Default)]
pub(super) struct HandedOver {
    /// For the session from the answer's header on; for the exchange once the session is dropped.
    pub(super) pipeline: Option<Box<AnswerPipeline>>,
    /// The header of an answer that was held, in place of the upstream's.
    pub(super) held_header: Option<Box<ResponseHeader>>,
    /// Whether what the client has of a stream ends inside of an event, once the session in its place is dropped.
    pub(super) is_inside_event: bool,
    /// For the session, where its body goes out over HTTP/2: what reaches Pingora between two writes of it.
    pub(super) messages: Option<Sender<Bytes>>,
    /// The client's own session, once the session in its place is dropped.
    pub(super) client: Option<Box<ServerSession>>,
}

impl Handover {
    pub(super) fn lock(&self) -> MutexGuard<'_, HandedOver> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
