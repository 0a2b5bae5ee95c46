//! Owns the entries that this process holds: bounded in number and bytes, the least recently used going first.
//! Refuses to know files, servers and what makes two texts mean the same; whoever looks says what passes.
//!
//! One lock stands before all, and is only held for look-ups in maps; a search by similarity runs without it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::entry::{Entry, Filter, Key, Moment};
use super::rows::{Rows, nearest};
use super::sketch::Sketch;
use super::tally::Tally;

/// Entries in this process.
#[derive(Debug)]
pub(super) struct Memory {
    max_entries: usize,
    max_bytes: usize,
    state: RwLock<State>,
    /// Counts uses, as the measure of what was used last.
    ticks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Key, Held>,
    scopes: HashMap<[u8; 32], Rows>,
    /// By the last use that was known when the entry was put here; a later one is found when its turn comes.
    order: BTreeMap<u64, Key>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    /// The row in its scope, for an entry that can be found by similarity.
    row: Option<usize>,
    /// Its place in the order.
    tick: u64,
}

impl Memory {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { max_entries, max_bytes, state: RwLock::default(), ticks: AtomicU64::new(1) }
    }

    /// Returns the entry of a key unless its time is over, and throws it away if so.
    pub(super) fn get(&self, key: &Key, now: Moment, tally: &Tally) -> Option<Arc<Entry>> {
        let entry = self.read().held.get(key).map(|held| Arc::clone(&held.entry))?;
        if entry.is_over(now) {
            self.drop_over(&entry, tally);
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
        now: Moment,
        tally: &Tally,
    ) -> Vec<(f32, Arc<Entry>)> {
        let Some(blocks) = self.read().scopes.get(scope).map(Rows::blocks) else { return Vec::new() };
        let mut found = nearest(&blocks, embedding, min_score);
        drop(blocks);
        found.retain(|(_, entry)| {
            let over = entry.is_over(now);
            if over {
                self.drop_over(entry, tally);
            }
            !over
        });
        found
    }

    /// Notes that an entry was of use.
    pub(super) fn touch(&self, entry: &Entry) {
        entry.touch(self.tick());
    }

    /// Keeps an entry in the place of an older one of its key; `false` where it would not fit into an empty cache.
    pub(super) fn insert(&self, entry: Entry, tally: &Tally) -> bool {
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
        tally.evicted(gone.len() - replaced);
        // What went is freed here, after the lock.
        true
    }

    /// Throws an entry away.
    pub(super) fn remove(&self, key: &Key) {
        let gone = self.write().remove(key);
        drop(gone);
    }

    /// Throws away what the filter means and returns how many entries that were.
    pub(super) fn invalidate(&self, filter: &Filter) -> usize {
        let meant: Vec<Key> = {
            let state = self.read();
            let meant = state.held.iter().filter(|(key, held)| filter.matches(key, &held.entry.meta));
            meant.map(|(key, _)| *key).collect()
        };
        meant.iter().filter(|key| self.write().remove(key).is_some()).count()
    }

    /// Returns how many entries are held and what they take.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.read();
        (state.held.len(), state.bytes)
    }

    /// Returns all entries, the least recently used first.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.read().held.values().map(|held| Arc::clone(&held.entry)).collect();
        entries.sort_by_cached_key(|entry| entry.used.load(Ordering::Relaxed));
        entries
    }

    /// Throws an entry away unless another has taken its key meanwhile.
    fn drop_over(&self, entry: &Arc<Entry>, tally: &Tally) {
        let mut state = self.write();
        if state.held.get(&entry.key).is_some_and(|held| Arc::ptr_eq(&held.entry, entry)) {
            let gone = state.remove(&entry.key);
            drop(state);
            tally.expired(usize::from(gone.is_some()));
        }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, entry: Arc<Entry>, sketch: Option<Sketch>, tick: u64) {
        self.bytes += entry.weight();
        let row = sketch
            .map(|sketch| self.scopes.entry(entry.key.scope).or_default().push(&sketch, Arc::clone(&entry)));
        self.order.insert(tick, entry.key);
        self.held.insert(entry.key, Held { entry, row, tick });
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Entry>> {
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
    fn evict(&mut self) -> Option<Arc<Entry>> {
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
