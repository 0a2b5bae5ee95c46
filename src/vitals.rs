//! Owns what the process is doing right now: requests in flight, bytes of bodies held, whether it is draining.
//!
//! Counts are guards, so that they cannot leak. Knows nothing of what is counted for the record (`metrics`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The process's counts and their limits.
#[derive(Debug)]
pub struct Vitals {
    in_flight: AtomicUsize,
    buffered: AtomicUsize,
    buffer_limit: usize,
    draining: AtomicBool,
}

impl Vitals {
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

    /// Tells whether the process takes its leave.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins to take leave; there is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight { vitals: Arc::clone(self), bytes: 0 }
    }
}

/// One request in flight, with the bytes of its body.
#[derive(Debug)]
pub struct InFlight {
    vitals: Arc<Vitals>,
    bytes: usize,
}

/// The limit on the bytes of all bodies is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit on buffered request bodies is reached")]
pub struct BuffersFull;

impl InFlight {
    /// Adds `bytes` to what this request holds.
    pub fn hold(&mut self, bytes: usize) -> Result<(), BuffersFull> {
        let before = self.vitals.buffered.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.vitals.buffer_limit { Err(BuffersFull) } else { Ok(()) }
    }

    /// The bytes this request holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.vitals.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
        self.vitals.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_held_is_given_back_even_when_the_limit_refused_it() {
        let vitals = Vitals::new(100);
        let mut first = vitals.enter();
        let mut second = vitals.enter();
        assert_eq!(first.hold(80), Ok(()));
        assert_eq!(second.hold(30), Err(BuffersFull));
        drop(second);
        assert_eq!((vitals.in_flight(), vitals.buffered()), (1, 80));
        drop(first);
        assert_eq!((vitals.in_flight(), vitals.buffered()), (0, 0));
    }
}
