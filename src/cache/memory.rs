//! Owns the entries that this process holds: bounded in number and bytes, the least recently used going first.
//! Refuses to know files, servers and what makes two texts the same question; the caller checks that.
//!
//! One lock stands before all, and is only held for look-ups in maps; a search by similarity runs without it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::counters::CacheCounters;
use super::entry::{CacheEntry, CacheKey, UnixMillis};
use super::rows::{Rows, nearest};
use super::sketch::Sketch;

/// Entries in this process.
#[derive(Debug)]
pub(super) struct MemoryStore {
    max_entries: usize,
    max_bytes: usize,
    counters: Arc<CacheCounters>,
    state: RwLock<MemoryState>,
    /// Counts uses, as the measure of what was used last.
    ticks: AtomicU64,
}

#[derive(Debug, Default)]
struct MemoryState {
    held: HashMap<CacheKey, StoredEntry>,
    scopes: HashMap<[u8; 32], Rows>,
    /// By the last use that was known when the entry was put here; a later one is found when its turn comes.
    order: BTreeMap<u64, CacheKey>,
    bytes: usize,
}

#[derive(Debug)]
struct StoredEntry {
    entry: Arc<CacheEntry>,
    /// The row in its scope, for an entry that can be found by similarity.
    row: Option<usize>,
    /// Its place in the order.
    tick: u64,
}

impl MemoryStore {
    pub(super) fn new(max_entries: usize, max_bytes: usize, counters: Arc<CacheCounters>) -> Self {
        Self { max_entries, max_bytes, counters, state: RwLock::default(), ticks: AtomicU64::new(1) }
    }

    /// Returns the entry of a key unless its time is over, and throws it away if so.
    pub(super) fn get(&self, key: &CacheKey, now: UnixMillis) -> Option<Arc<CacheEntry>> {
        let entry = self.read().held.get(key).map(|held| Arc::clone(&held.entry))?;
        if entry.is_expired(now) {
            self.drop_expired(&entry);
            return None;
        }
        Some(entry)
    }

    /// Finds the entries of a scope nearest to an embedding, nearest first, none below the least score nor over.
    pub(super) fn near(
        &self,
        scope: &[u8; 32],
        embedding: &[f32],
        min_score: f32,
        now: UnixMillis,
    ) -> Vec<(f32, Arc<CacheEntry>)> {
        let Some(blocks) = self.read().scopes.get(scope).map(Rows::blocks) else { return Vec::new() };
        let mut found = nearest(&blocks, embedding, min_score);
        drop(blocks);
        found.retain(|(_, entry)| {
            let over = entry.is_expired(now);
            if over {
                self.drop_expired(entry);
            }
            !over
        });
        found
    }

    /// Notes that an entry was of use.
    pub(super) fn touch(&self, entry: &CacheEntry) {
        entry.touch(self.tick());
    }

    /// Keeps an entry in the place of an older one of its key; `false` where it would not fit into an empty cache.
    pub(super) fn insert(&self, entry: CacheEntry) -> bool {
        let weight = entry.weight();
        if weight > self.max_bytes || self.max_entries == 0 {
            return false;
        }
        let tick = self.tick();
        entry.touch(tick);
        // Outside the lock: it takes microseconds.
        let sketch = entry.embedding.as_deref().and_then(Sketch::of);
        let entry = Arc::new(entry);
        let mut gone = Vec::new();
        let mut state = self.write();
        gone.extend(state.remove(&entry.key));
        let replaced = gone.len();
        while state.held.len() >= self.max_entries || state.bytes + weight > self.max_bytes {
            let Some(evicted) = state.evict() else { break };
            gone.push(evicted);
        }
        state.insert(entry, sketch, tick);
        drop(state);
        self.counters.evicted.add(gone.len() - replaced);
        // What went is freed here, after the lock.
        true
    }

    /// Throws an entry away.
    pub(super) fn remove(&self, key: &CacheKey) {
        let gone = self.write().remove(key);
        drop(gone);
    }

    /// Counts entries that were near enough but do not answer the question.
    pub(super) fn count_guard_rejections(&self, count: usize) {
        self.counters.guard_rejections.add(count);
    }

    /// Returns how many entries are held and what they take.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.read();
        (state.held.len(), state.bytes)
    }

    /// Returns all entries, the least recently used first.
    pub(super) fn entries(&self) -> Vec<Arc<CacheEntry>> {
        let mut entries: Vec<_> = self.read().held.values().map(|held| Arc::clone(&held.entry)).collect();
        entries.sort_by_cached_key(|entry| entry.used.load(Ordering::Relaxed));
        entries
    }

    /// Throws an entry away unless another has taken its key meanwhile.
    fn drop_expired(&self, entry: &Arc<CacheEntry>) {
        let mut state = self.write();
        if state.held.get(&entry.key).is_some_and(|held| Arc::ptr_eq(&held.entry, entry)) {
            let gone = state.remove(&entry.key);
            drop(state);
            self.counters.expired.add(usize::from(gone.is_some()));
        }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, MemoryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, MemoryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryState {
    fn insert(&mut self, entry: Arc<CacheEntry>, sketch: Option<Sketch>, tick: u64) {
        self.bytes += entry.weight();
        let row = sketch
            .map(|sketch| self.scopes.entry(entry.key.scope).or_default().push(&sketch, Arc::clone(&entry)));
        self.order.insert(tick, entry.key);
        self.held.insert(entry.key, StoredEntry { entry, row, tick });
    }

    fn remove(&mut self, key: &CacheKey) -> Option<Arc<CacheEntry>> {
        let held = self.held.remove(key)?;
        self.order.remove(&held.tick);
        self.bytes -= held.entry.weight();
        if let Some(row) = held.row
            && let Some(rows) = self.scopes.get_mut(&key.scope)
        {
            let moved = rows.remove(row).and_then(|moved| self.held.get_mut(&moved));
            if let Some(moved) = moved {
                moved.row = Some(row);
            }
            if rows.is_empty() {
                self.scopes.remove(&key.scope);
            }
        }
        Some(held.entry)
    }

    /// Takes out the entry that was used longest ago.
    fn evict(&mut self) -> Option<Arc<CacheEntry>> {
        // Each turn ends the loop or brings one entry's place up to date, and no reader moves it on meanwhile twice.
        for _ in 0..=self.order.len() {
            let (tick, key) = self.order.pop_first()?;
            let Some(held) = self.held.get_mut(&key) else { continue };
            let used = held.entry.used.load(Ordering::Relaxed);
            if used == tick {
                return self.remove(&key);
            }
            held.tick = used;
            self.order.insert(used, key);
        }
        let key = self.order.first_key_value().map(|(_, key)| *key)?;
        self.remove(&key)
    }
}

#[cfg(test)]
mod tests;
