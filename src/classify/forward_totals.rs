//! What the forwards of a classifier sum up to.
//!
//! Counts alone; knows nothing of when or why they are computed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the forwards of a classifier sum up to since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardTotals {
    /// How many there were.
    pub count: u64,
    /// How many windows they computed.
    pub windows: u64,
    /// How many windows needed none, because their outputs were in the cache.
    pub cached: u64,
    /// How many tokens the computed windows held.
    pub tokens: u64,
    /// How long they took.
    pub time: Duration,
    /// How many of them failed.
    pub failed: u64,
}

#[derive(Default)]
pub(super) struct TotalCounters {
    count: AtomicU64,
    windows: AtomicU64,
    tokens: AtomicU64,
    nanos: AtomicU64,
    failed: AtomicU64,
}

impl TotalCounters {
    pub(super) fn add(&self, windows: usize, tokens: usize, took: Duration, failed: bool) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.windows.fetch_add(windows as u64, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// Sums up what was computed, beside so many windows that needed no forward.
    pub(super) fn sum(&self, cached: u64) -> ForwardTotals {
        ForwardTotals {
            count: self.count.load(Ordering::Relaxed),
            windows: self.windows.load(Ordering::Relaxed),
            cached,
            tokens: self.tokens.load(Ordering::Relaxed),
            time: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}
