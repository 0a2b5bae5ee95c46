//! Owns how long a client may take to read what is written to it, and that this time is not the upstream's.
//!
//! Refuses to know what is written.

use super::deadline::Deadline;
use pingora::{Error, ErrorType, Result};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What bounds the time that a client takes to read.
pub(super) struct SlowClient<'a> {
    pub(super) write_timeout: Option<Duration>,
    /// The upstream's, which stands still meanwhile.
    pub(super) deadline: &'a Deadline,
}

impl SlowClient<'_> {
    /// Waits for a write to end. The write stays where it is: it is large, and there is one for every chunk.
    pub(super) async fn within_limits<T>(
        self,
        mut writing: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
    ) -> Result<T> {
        // Most writes are done at once, and cheaper than a timer.
        if let Poll::Ready(written) = futures::poll!(writing.as_mut()) {
            return written;
        }
        let began = Instant::now();
        let rest = self.deadline.rest(began);
        let limit = self.write_timeout.map_or(rest, |write_timeout| write_timeout.min(rest));
        let written = pingora_timeout::timeout(limit, writing).await;
        self.deadline.postpone_for_client(began.elapsed());
        written.unwrap_or_else(|_elapsed| {
            Err(Error::explain(ErrorType::WriteTimedout, "the client does not read").into_down())
        })
    }
}
