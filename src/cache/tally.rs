//! Owns what the cache counts. Refuses to know how counts are shown.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the cache holds and what became of the requests to it, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Entries that this process holds.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Answers found by an equal request.
    pub exact_hits: u64,
    /// Answers found by a similar request.
    pub similar_hits: u64,
    /// Requests without an answer.
    pub misses: u64,
    /// Answers kept.
    pub stored: u64,
    /// Answers not kept.
    pub refused: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries thrown away because their time was over.
    pub expired: u64,
    /// Entries near enough that did not ask for the same.
    pub rejected_by_guard: u64,
    /// Commands that the server did not answer in time or at all, and files not written.
    pub store_errors: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    exact_hits: AtomicU64,
    similar_hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
    refused: AtomicU64,
    evictions: AtomicU64,
    expired: AtomicU64,
    rejected: AtomicU64,
    errors: AtomicU64,
}

impl Tally {
    pub(super) fn exact_hit(&self) {
        add(&self.exact_hits, 1);
    }

    pub(super) fn similar_hit(&self) {
        add(&self.similar_hits, 1);
    }

    pub(super) fn miss(&self) {
        add(&self.misses, 1);
    }

    pub(super) fn stored(&self) {
        add(&self.stored, 1);
    }

    pub(super) fn refused(&self) {
        add(&self.refused, 1);
    }

    pub(super) fn evicted(&self, count: usize) {
        add(&self.evictions, count);
    }

    pub(super) fn expired(&self, count: usize) {
        add(&self.expired, count);
    }

    pub(super) fn rejected(&self) {
        add(&self.rejected, 1);
    }

    pub(super) fn error(&self) {
        add(&self.errors, 1);
    }

    /// Reads all counters, beside the size of what is held.
    pub(super) fn read(&self, (entries, bytes): (usize, usize)) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            entries: entries as u64,
            bytes: bytes as u64,
            exact_hits: of(&self.exact_hits),
            similar_hits: of(&self.similar_hits),
            misses: of(&self.misses),
            stored: of(&self.stored),
            refused: of(&self.refused),
            evictions: of(&self.evictions),
            expired: of(&self.expired),
            rejected_by_guard: of(&self.rejected),
            store_errors: of(&self.errors),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
