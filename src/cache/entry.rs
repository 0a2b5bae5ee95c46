//! One entry of the response cache: its key, its answer, its size and its lifetime. Refuses to know where it is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// What the maps and lists around an entry take, roughly.
const OVERHEAD_BYTES: usize = 512;

/// The key of an answer: requests of equal keys share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    /// A hash of all that must be equal for two requests to share answers: who asks, decision, model, parameters.
    pub scope: [u8; 32],
    /// A hash of the request's own words.
    pub exact: [u8; 32],
}

/// Where an answer came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerOrigin {
    /// The model that gave the answer.
    pub model: Arc<str>,
    /// The decision that led to it.
    pub decision: Arc<str>,
    /// The tenant that it belongs to.
    pub tenant: Option<Arc<str>>,
}

/// An answer with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedAnswer {
    /// The answer, as it was handed over.
    pub body: Bytes,
    /// Its origin.
    pub origin: AnswerOrigin,
}

/// A time in milliseconds of the calendar, so that it outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnixMillis(pub(super) u64);

impl UnixMillis {
    pub(super) fn of(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, millis))
    }

    pub(super) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An answer, and what it is found by.
#[derive(Debug)]
pub(super) struct CacheEntry {
    pub(super) key: CacheKey,
    /// What was asked, for the guard; empty where only equal requests may find the entry.
    pub(super) text: Box<str>,
    /// Of unit length.
    pub(super) embedding: Option<Box<[f32]>>,
    pub(super) answer: Bytes,
    pub(super) origin: AnswerOrigin,
    pub(super) stored: UnixMillis,
    pub(super) expires: UnixMillis,
    /// The tick of the last use.
    pub(super) used: AtomicU64,
}

impl CacheEntry {
    /// Returns the bytes that the entry takes.
    pub(super) fn weight(&self) -> usize {
        let numbers = self.embedding.as_ref().map_or(0, |numbers| size_of_val(&**numbers));
        let names = self.origin.model.len()
            + self.origin.decision.len()
            + self.origin.tenant.as_ref().map_or(0, |tenant| tenant.len());
        OVERHEAD_BYTES + self.text.len() + numbers + self.answer.len() + names
    }

    pub(super) fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires <= now
    }

    pub(super) fn touch(&self, tick: u64) {
        self.used.fetch_max(tick, Ordering::Relaxed);
    }
}
