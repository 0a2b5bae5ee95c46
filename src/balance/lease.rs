//! Owns one request's hold on one endpoint, from the choice to the drop.
//! Refuses to know what the request is and what counts as its success or failure.

use super::endpoint::Endpoint;
use super::pool::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One request on one endpoint: counted in flight from its making to its drop, exactly once.
///
/// It cannot be cloned; hold it until the last byte.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    member: usize,
    taken: Instant,
    failed: AtomicBool,
}

impl Lease {
    pub(super) fn new(pool: Arc<Pool>, member: usize, taken: Instant) -> Self {
        let lease = Self { pool, member, taken, failed: AtomicBool::new(false) };
        lease.endpoint().enter();
        lease
    }

    /// The endpoint that the request goes to.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.pool.members()[self.member].endpoint
    }

    /// Reports that the request went well, to its end: failures in a row start anew, a trial is won.
    ///
    /// Changes nothing once the lease has failed.
    pub fn succeeded(&self) {
        if !self.failed.load(Ordering::Relaxed) {
            self.endpoint().succeeded(self.taken);
        }
    }

    /// Reports at `now` that the endpoint failed the request; `Some` when that ejected it, with how long.
    ///
    /// A lease fails once; further calls change nothing.
    pub fn failed(&self, now: Instant) -> Option<Duration> {
        if self.failed.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.pool.failed(self.endpoint(), self.taken, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint().leave();
    }
}
