//! Owns the state of the process: clients' connections, requests in flight, bytes of requests held, whether it drains.
//!
//! Counts are guards, so that they cannot leak. Knows nothing of metrics.

mod buffers;
mod connections;
mod websockets;

pub use buffers::{BufferShare, BuffersFull};
pub use connections::{
    ClientConnection, ConnectionGuard, ConnectionLimits, ConnectionRequest, Connections, ConnectionsFull,
    ForcedEnd,
};
pub use websockets::OpenWebSocket;

use crate::policy::ClientLimits;
use buffers::Buffers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use websockets::WebSockets;

/// The least requests whose bodies may be awaited at one time, however few may be worked on.
const LEAST_RECEIVING: usize = 1024;

/// Of the slots, one in so many is kept for clients that are known.
const KNOWN_SHARE: usize = 8;

/// The state of the process, shared by the listeners, the proxy and the shutdown.
#[derive(Debug)]
pub struct ServerState {
    /// The connections of clients.
    pub connections: Arc<Connections>,
    buffers: Arc<Buffers>,
    in_flight: AtomicUsize,
    /// Of those in flight, how many wait for their bodies.
    receiving: AtomicUsize,
    /// Of those in flight, how many have a slot.
    slots: AtomicUsize,
    max_slots: usize,
    websockets: Arc<WebSockets>,
    closing: AtomicBool,
    draining: AtomicBool,
    over: AtomicBool,
}

impl ServerState {
    /// Starts with nothing in flight.
    pub fn new(limits: &ClientLimits, connections: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            connections: Connections::new(connections),
            buffers: Buffers::new(limits.max_buffered_bytes),
            in_flight: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            slots: AtomicUsize::new(0),
            max_slots: limits.max_in_flight,
            websockets: WebSockets::new(limits.websockets.max_open),
            closing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// The requests being worked on, or received.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// The bytes of requests held, with their copies, and of answers held back.
    pub fn buffered(&self) -> usize {
        self.buffers.held()
    }

    /// Whether the process is draining: it finishes its requests and takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether connections end with the answers that are begun from now on.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether what is in flight has had its time.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Has clients come back on connections of their own: a successor takes those.
    pub fn close_connections(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Starts to drain; there is no way back.
    pub fn drain(&self) {
        self.close_connections();
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends what is still in flight.
    pub fn end_requests(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.connections.end_all();
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> ActiveRequest {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        ActiveRequest { buffered: self.share(), server_state: Arc::clone(self), stage: Stage::Open }
    }

    /// Returns a share in the bytes that may be held, empty at first.
    pub fn share(&self) -> BufferShare {
        Buffers::share(&self.buffers)
    }
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Receiving,
    Admitted,
}

/// One request in flight, with the bytes that it holds.
#[derive(Debug)]
pub struct ActiveRequest {
    /// The bytes of its header, its body and their copies.
    pub buffered: BufferShare,
    server_state: Arc<ServerState>,
    stage: Stage,
}

/// A limit on requests is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit on requests is reached")]
pub struct TooManyRequests;

impl ActiveRequest {
    /// Begins to wait for the body; such a request holds no slot of those that are worked on.
    pub fn receive(&mut self) -> Result<(), TooManyRequests> {
        let most = self.server_state.max_slots.max(LEAST_RECEIVING);
        self.move_to(Stage::Receiving, most)
    }

    /// Takes a slot, of which the last ones are for clients that are known where `keeps_some` for them.
    pub fn admit(&mut self, keeps_some: bool) -> Result<(), TooManyRequests> {
        let slots = self.server_state.max_slots;
        let kept = if keeps_some && slots > 1 { slots.div_ceil(KNOWN_SHARE) } else { 0 };
        self.move_to(Stage::Admitted, slots - kept)
    }

    /// Counts a WebSocket, unless there are as many as there may be.
    pub fn open_websocket(&self) -> Result<OpenWebSocket, TooManyRequests> {
        self.server_state.websockets.open()
    }

    /// Gives the slot up while the request waits for its pool.
    pub fn wait(&mut self) {
        self.leave();
    }

    /// Takes a slot again after the wait, whether one is free or not: those that wait are let go a few at a time.
    pub fn go_on(&mut self) {
        // There is always one more than the greatest number.
        let _ = self.move_to(Stage::Admitted, usize::MAX);
    }

    /// Returns another share in the bytes that may be held, for what outlives the request's own or comes and goes.
    pub fn new_share(&self) -> BufferShare {
        self.server_state.share()
    }

    /// Waits for room to prepare `bytes` of a request: to read its texts, and to rewrite it.
    pub async fn room_to_prepare(
        &self,
        bytes: usize,
        within: Duration,
    ) -> Result<Option<tokio::sync::OwnedSemaphorePermit>, BuffersFull> {
        self.server_state.buffers.room_to_prepare(bytes, within).await
    }

    fn move_to(&mut self, stage: Stage, most: usize) -> Result<(), TooManyRequests> {
        if let Some(counter) = self.server_state.counter(stage)
            && counter
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < most).then_some(now + 1))
                .is_err()
        {
            return Err(TooManyRequests);
        }
        self.leave();
        self.stage = stage;
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(counter) = self.server_state.counter(self.stage) {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
        self.stage = Stage::Open;
    }
}

impl ServerState {
    fn counter(&self, stage: Stage) -> Option<&AtomicUsize> {
        match stage {
            Stage::Open => None,
            Stage::Receiving => Some(&self.receiving),
            Stage::Admitted => Some(&self.slots),
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.leave();
        self.server_state.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(max_in_flight: usize) -> Arc<ServerState> {
        let limits = ClientLimits { max_in_flight, ..ClientLimits::default() };
        ServerState::new(&limits, ConnectionLimits { most: 10, most_of_one_peer: 10 })
    }

    #[test]
    fn a_request_that_waits_for_its_body_holds_no_slot() {
        let state = state(1);
        let mut waiting = state.enter();
        waiting.receive().unwrap();
        let mut working = state.enter();
        working.admit(false).unwrap();
        assert_eq!(waiting.admit(false), Err(TooManyRequests));
        drop(working);
        waiting.admit(false).unwrap();
        assert_eq!((state.in_flight(), state.receiving.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn the_last_slots_are_for_clients_that_are_known() {
        let state = state(4);
        let mut requests: Vec<_> = (0..5).map(|_| state.enter()).collect();
        for unknown in &mut requests[..3] {
            unknown.admit(true).unwrap();
        }
        assert_eq!(requests[3].admit(true), Err(TooManyRequests));
        requests[4].admit(false).unwrap();
        requests.clear();
        assert_eq!((state.in_flight(), state.slots.load(Ordering::Relaxed)), (0, 0));
    }
}
