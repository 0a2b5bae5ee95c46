//! A bounded LRU cache of windows' outputs by their tokens.
//!
//! Agents send the whole conversation again with every turn, and only its new windows are computed. Holds no text: a
//! window's key is a hash of 128 bits with a random seed, so that no client can prepare two windows with the same key.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::backend::HeadOutputs;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WindowKey(u64, u64);

pub(super) struct WindowCache {
    seeds: (RandomState, RandomState),
    outputs: Option<Mutex<LruCache<WindowKey, Arc<HeadOutputs>>>>,
}

impl WindowCache {
    /// Makes room for the outputs of so many windows; 0 turns the cache off.
    pub(super) fn new(windows: usize) -> Self {
        let outputs = NonZeroUsize::new(windows).map(|windows| Mutex::new(LruCache::new(windows)));
        Self { seeds: (RandomState::new(), RandomState::new()), outputs }
    }

    /// Returns the key of a window for the model at that index; `second` is where the second text of a pair starts.
    pub(super) fn key(&self, model: usize, ids: &[u32], second: Option<usize>) -> WindowKey {
        WindowKey(self.seeds.0.hash_one((model, ids, second)), self.seeds.1.hash_one((model, ids, second)))
    }

    /// Returns the outputs of a window, which may be of fewer heads than are wanted.
    pub(super) fn get(&self, key: WindowKey) -> Option<Arc<HeadOutputs>> {
        self.lock()?.get(&key).cloned()
    }

    /// Stores the outputs of a window, joined with those of other heads that are there already.
    pub(super) fn put(&self, key: WindowKey, outputs: &Arc<HeadOutputs>) {
        let Some(mut cached) = self.lock() else { return };
        let known = cached.get(&key).filter(|known| has_more_heads(known, outputs));
        let whole = known.map(|known| {
            let mut whole = HeadOutputs::clone(outputs);
            whole.fill_missing_from(known);
            Arc::new(whole)
        });
        cached.put(key, whole.unwrap_or_else(|| Arc::clone(outputs)));
    }

    fn lock(&self) -> Option<MutexGuard<'_, LruCache<WindowKey, Arc<HeadOutputs>>>> {
        Some(self.outputs.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn has_more_heads(known: &HeadOutputs, than: &HeadOutputs) -> bool {
    !known.heads().without(than.heads()).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Arc<HeadOutputs> {
        Arc::new(HeadOutputs { domain: Some(vec![0.25, 0.75]), ..HeadOutputs::default() })
    }

    fn jailbreak() -> Arc<HeadOutputs> {
        Arc::new(HeadOutputs { jailbreak: Some(0.5), ..HeadOutputs::default() })
    }

    #[test]
    fn a_window_is_cached_by_its_tokens_and_its_model() {
        let cache = WindowCache::new(8);
        cache.put(cache.key(0, &[1, 2], None), &domain());
        assert_eq!(cache.get(cache.key(0, &[1, 2], None)), Some(domain()));
        for (model, ids) in [(1, &[1, 2][..]), (0, &[1]), (0, &[2, 1]), (0, &[1, 2, 0])] {
            assert_eq!(cache.get(cache.key(model, ids, None)), None);
        }
        assert_eq!(cache.get(cache.key(0, &[1, 2], Some(1))), None);
        assert_ne!(cache.key(0, &[1, 2], None), WindowCache::new(8).key(0, &[1, 2], None));
    }

    #[test]
    fn the_outputs_of_one_head_are_joined_with_those_of_another() {
        let cache = WindowCache::new(8);
        let key = cache.key(0, &[1], None);
        cache.put(key, &domain());
        cache.put(key, &jailbreak());
        let whole = cache.get(key).unwrap();
        assert_eq!((&whole.domain, whole.jailbreak), (&domain().domain, Some(0.5)));
        cache.put(key, &domain());
        assert_eq!(cache.get(key).unwrap().jailbreak, Some(0.5));
    }

    #[test]
    fn the_least_recently_used_goes_when_it_is_full() {
        let cache = WindowCache::new(3);
        let keys: Vec<WindowKey> = (0..4).map(|id| cache.key(0, &[id], None)).collect();
        for key in &keys[..3] {
            cache.put(*key, &domain());
        }
        assert!(cache.get(keys[0]).is_some());
        cache.put(keys[3], &domain());
        let kept: Vec<bool> = keys.iter().map(|key| cache.get(*key).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn without_room_nothing_is_cached() {
        let cache = WindowCache::new(0);
        cache.put(cache.key(0, &[1], None), &domain());
        assert_eq!(cache.get(cache.key(0, &[1], None)), None);
    }
}
