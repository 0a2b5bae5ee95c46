//! Owns how many WebSockets are open. Refuses to know what they are for.

use super::TooManyRequests;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The WebSockets of the process.
#[derive(Debug)]
pub(super) struct WebSockets {
    open: AtomicUsize,
    most: usize,
}

/// Counts a WebSocket until it is dropped.
#[derive(Debug)]
pub struct OpenWebSocket(Arc<WebSockets>);

impl WebSockets {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), most })
    }

    pub(super) fn open(self: &Arc<Self>) -> Result<OpenWebSocket, TooManyRequests> {
        let add = |open: usize| (open < self.most).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map_err(|_full| TooManyRequests)?;
        Ok(OpenWebSocket(Arc::clone(self)))
    }
}

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
