//! Owns what is counted of the response cache beside its requests: its size, and what it stored and removed.
//!
//! The cache counts for itself; its numbers are read when they are asked for.

use super::families::Families;
use crate::cache::{CacheStats, ResponseCache};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(super) struct CacheMetrics {
    entries: IntGauge,
    bytes: IntGauge,
    stores: IntCounterVec,
    removals: IntCounterVec,
    guard_rejections: IntCounter,
    errors: IntCounter,
    /// What was counted last, and of which cache: another one starts at zero.
    last: Mutex<(Weak<ResponseCache>, CacheStats)>,
}

impl CacheMetrics {
    pub(super) fn new(families: &Families<'_>) -> Self {
        Self {
            entries: families
                .gauge("cache_entries", "Answers that this process holds in the response cache now."),
            bytes: families.gauge("cache_bytes", "Bytes that they take."),
            stores: families.counter(
                "cache_stores_total",
                "Answers offered to the response cache, by result: stored or refused.",
                &["result"],
            ),
            removals: families.counter(
                "cache_removals_total",
                "Answers removed from the response cache, by cause: evicted for want of room, or expired.",
                &["cause"],
            ),
            guard_rejections: families.plain_counter(
                "cache_guard_rejections_total",
                "Similar entries that text guard and paraphrase head found to answer another question.",
            ),
            errors: families.plain_counter(
                "cache_errors_total",
                "Commands that the cache's server did not answer in time or at all, and files not written.",
            ),
            last: Mutex::default(),
        }
    }

    /// Takes over what the live cache counted since the last time.
    pub(super) fn follow(&self, cache: Option<&Arc<ResponseCache>>) {
        let Some(cache) = cache else {
            self.entries.set(0);
            self.bytes.set(0);
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(last.0.as_ptr(), Arc::as_ptr(cache)) {
            *last = (Arc::downgrade(cache), CacheStats::default());
        }
        // Read under the lock: of two scrapes at once the later must not see older counts than the first.
        let now = cache.stats();
        let then = std::mem::replace(&mut last.1, now);
        self.entries.set(i64::try_from(now.entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(now.bytes).unwrap_or(i64::MAX));
        self.stores.with_label_values(&["stored"]).inc_by(now.stored - then.stored);
        self.stores.with_label_values(&["refused"]).inc_by(now.refused - then.refused);
        self.removals.with_label_values(&["evicted"]).inc_by(now.evicted - then.evicted);
        self.removals.with_label_values(&["expired"]).inc_by(now.expired - then.expired);
        self.guard_rejections.inc_by(now.guard_rejections - then.guard_rejections);
        self.errors.inc_by(now.store_errors - then.store_errors);
    }
}
