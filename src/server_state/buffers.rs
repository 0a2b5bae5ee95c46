//! Owns the bound on the bytes of all requests and answers together: what each holds, and the room in which copies are
//! made.
//!
//! Knows nothing of what the bytes are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of the bound, one in so many bytes may be copies in the making.
const PREPARING_SHARE: usize = 4;

/// Requests shorter than this many bytes are prepared without asking for room.
const SHORT: usize = 64 << 10;

/// How many times its own length a request needs to be prepared: its texts, what a guard or plugin changed, and what
/// the upstream gets.
const COPIES: usize = 3;

/// One permit stands for so many bytes: permits are counted in 32 bits.
const UNIT: usize = 1 << 10;

/// The bytes of all requests.
#[derive(Debug)]
pub(super) struct Buffers {
    held: AtomicUsize,
    limit: usize,
    preparing: Arc<Semaphore>,
    preparing_units: u32,
}

/// The limit on the bytes of all requests is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit on buffered bytes is reached")]
pub struct BuffersFull;

impl Buffers {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let units = u32::try_from(limit / PREPARING_SHARE / UNIT).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        let preparing = Arc::new(Semaphore::new(units as usize));
        Arc::new(Self { held: AtomicUsize::new(0), limit, preparing, preparing_units: units })
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn share(buffers: &Arc<Self>) -> BufferShare {
        BufferShare { buffers: Arc::clone(buffers), bytes: 0 }
    }

    /// Waits for room to prepare a request of so many bytes; a short one needs none.
    pub(super) async fn room_to_prepare(
        &self,
        bytes: usize,
        within: Duration,
    ) -> Result<Option<OwnedSemaphorePermit>, BuffersFull> {
        if bytes < SHORT {
            return Ok(None);
        }
        let units = u32::try_from(bytes.saturating_mul(COPIES) / UNIT).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.preparing).acquire_many_owned(units.min(self.preparing_units));
        // Boxed: keeps the future small for short requests.
        match Box::pin(tokio::time::timeout(within, room)).await {
            Ok(Ok(room)) => Ok(Some(room)),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(BuffersFull),
        }
    }
}

/// What one request or connection holds of the bytes that all may hold; given back when it is dropped.
#[derive(Debug)]
pub struct BufferShare {
    buffers: Arc<Buffers>,
    bytes: usize,
}

impl BufferShare {
    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds at least so many bytes in all. One that is refused holds nothing any more: what it had makes room for
    /// those that can be served.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), BuffersFull> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let limit = self.buffers.limit;
        let grown = self.buffers.held.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= limit)
        });
        if grown.is_err() {
            self.release();
            return Err(BuffersFull);
        }
        self.bytes += more;
        Ok(())
    }

    /// Holds exactly so many bytes, more or fewer than before. One that is refused holds nothing any more.
    pub fn set(&mut self, bytes: usize) -> Result<(), BuffersFull> {
        let fewer = self.bytes.saturating_sub(bytes);
        self.buffers.held.fetch_sub(fewer, Ordering::AcqRel);
        self.bytes -= fewer;
        self.grow_to(bytes)
    }

    /// Gives all of it back.
    pub fn release(&mut self) {
        self.buffers.held.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for BufferShare {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_refused_makes_room_at_once() {
        let buffers = Buffers::new(100);
        let mut first = Buffers::share(&buffers);
        let mut second = Buffers::share(&buffers);
        assert_eq!(first.grow_to(60), Ok(()));
        assert_eq!(second.grow_to(30), Ok(()));
        assert_eq!(second.grow_to(41), Err(BuffersFull));
        assert_eq!((second.bytes(), buffers.held()), (0, 60));
        assert_eq!(first.grow_to(100), Ok(()));
        assert_eq!(first.grow_to(10), Ok(()), "it holds more already");
        assert_eq!((first.set(10), first.bytes(), buffers.held()), (Ok(()), 10, 10));
        assert_eq!((first.set(101), first.bytes(), buffers.held()), (Err(BuffersFull), 0, 0));
        drop((first, second));
        assert_eq!(buffers.held(), 0);
    }

    #[tokio::test]
    async fn only_some_requests_are_prepared_at_a_time() {
        let buffers = Buffers::new(4 << 20);
        let wait = Duration::from_millis(20);
        let room = buffers.room_to_prepare(1 << 20, wait).await.unwrap();
        assert!(room.is_some());
        assert!(buffers.room_to_prepare(1000, wait).await.unwrap().is_none(), "short ones need no room");
        assert!(buffers.room_to_prepare(1 << 20, wait).await.is_err());
        drop(room);
        assert!(buffers.room_to_prepare(100 << 20, wait).await.is_ok(), "the longest takes all of it");
    }
}
