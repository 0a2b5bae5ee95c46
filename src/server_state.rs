//! Owns the state of the process: requests in flight, bytes of bodies held, whether it is draining.
//!
//! Counts are guards, so that they cannot leak. Knows nothing of metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The state of the process, shared by the listeners, the proxy and the shutdown.
#[derive(Debug)]
pub struct ServerState {
    in_flight: AtomicUsize,
    buffered: AtomicUsize,
    buffer_limit: usize,
    draining: AtomicBool,
}

impl ServerState {
    /// Starts with nothing in flight; bodies of all requests together may hold `buffer_limit` bytes.
    pub fn new(buffer_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
            buffer_limit,
            draining: AtomicBool::new(false),
        })
    }

    /// The requests being worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// The bytes of request bodies held.
    pub fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Whether the process is draining: it finishes its requests and takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Starts to drain; there is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> ActiveRequest {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        ActiveRequest { server_state: Arc::clone(self), bytes: 0 }
    }
}

/// One request in flight, with the bytes of its body.
#[derive(Debug)]
pub struct ActiveRequest {
    server_state: Arc<ServerState>,
    bytes: usize,
}

/// The limit on the bytes of all bodies is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit on buffered request bodies is reached")]
pub struct BuffersFull;

impl ActiveRequest {
    /// Adds `bytes` to what this request holds.
    pub fn hold(&mut self, bytes: usize) -> Result<(), BuffersFull> {
        let before = self.server_state.buffered.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.server_state.buffer_limit { Err(BuffersFull) } else { Ok(()) }
    }

    /// The bytes this request holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.server_state.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
        self.server_state.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_request_gives_its_bytes_back_even_when_the_limit_refused_it() {
        let server_state = ServerState::new(100);
        let mut first = server_state.enter();
        let mut second = server_state.enter();
        assert_eq!(first.hold(80), Ok(()));
        assert_eq!(second.hold(30), Err(BuffersFull));
        drop(second);
        assert_eq!((server_state.in_flight(), server_state.buffered()), (1, 80));
        drop(first);
        assert_eq!((server_state.in_flight(), server_state.buffered()), (0, 0));
    }
}
