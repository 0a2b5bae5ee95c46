//! Owns what the cache counts. Refuses to know how counts are shown.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the cache holds, and what it did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Entries that this process holds.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Answers stored.
    pub stored: u64,
    /// Answers not stored: too large, of no lifetime, or because the server did not take them.
    pub refused: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Entries removed because their time was over.
    pub expired: u64,
    /// Entries near enough whose text guard found that they do not answer the question.
    pub guard_rejections: u64,
    /// Commands that the server did not answer in time or at all, and files not written.
    pub store_errors: u64,
}

/// The counters behind [`CacheStats`].
#[derive(Debug, Default)]
pub(super) struct CacheCounters {
    pub(super) stored: CacheCounter,
    pub(super) refused: CacheCounter,
    pub(super) evicted: CacheCounter,
    pub(super) expired: CacheCounter,
    pub(super) guard_rejections: CacheCounter,
    pub(super) store_errors: CacheCounter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct CacheCounter(AtomicU64);

impl CacheCounter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl CacheCounters {
    /// Reads all counters; the size of what is held is the store's to add.
    pub(super) fn read(&self) -> CacheStats {
        CacheStats {
            entries: 0,
            bytes: 0,
            stored: self.stored.get(),
            refused: self.refused.get(),
            evicted: self.evicted.get(),
            expired: self.expired.get(),
            guard_rejections: self.guard_rejections.get(),
            store_errors: self.store_errors.get(),
        }
    }
}
