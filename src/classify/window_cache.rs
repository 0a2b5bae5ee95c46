//! A bounded LRU cache of windows' outputs by their tokens.
//!
//! Agents send the whole conversation again with every turn, and only its new windows are computed. Which texts were
//! computed as a whole is known too, so that before one is cut into tokens it counts as done. Holds no text: keys are
//! hashes of 128 bits with a random seed, so that no client can prepare two windows with the same key.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::ClassifyHeads;
use super::backend::HeadOutputs;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WindowKey(u64, u64);

/// A hash that is quick rather than strong: all that a collision does is to have a text wait where it had no time to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TextKey(u128);

pub(super) struct WindowCache {
    seeds: (RandomState, RandomState),
    text_seed: u64,
    outputs: Option<Mutex<LruCache<WindowKey, Arc<HeadOutputs>>>>,
    /// Texts whose windows were all computed, or found here, and for which heads.
    texts: Option<Mutex<LruCache<TextKey, ClassifyHeads>>>,
}

impl WindowCache {
    /// Makes room for the outputs of so many windows; 0 turns the cache off.
    pub(super) fn new(windows: usize) -> Self {
        let windows = NonZeroUsize::new(windows);
        let outputs = windows.map(|windows| Mutex::new(LruCache::new(windows)));
        // A text has one window at least.
        let texts = windows.map(|texts| Mutex::new(LruCache::new(texts)));
        let seeds = (RandomState::new(), RandomState::new());
        Self { text_seed: seeds.0.hash_one(0), seeds, outputs, texts }
    }

    /// Returns the key of a window for the model at that index; `second` is where the second text of a pair starts.
    pub(super) fn key(&self, model: usize, ids: &[u32], second: Option<usize>) -> WindowKey {
        WindowKey(self.seeds.0.hash_one((model, ids, second)), self.seeds.1.hash_one((model, ids, second)))
    }

    /// Returns the key of a text.
    pub(super) fn text_key(&self, text: &str) -> TextKey {
        TextKey(xxh3_128_with_seed(text.as_bytes(), self.text_seed))
    }

    /// Says whether everything was computed that these heads need of a text. Its windows may be gone since.
    pub(super) fn knows_text(&self, key: TextKey, heads: ClassifyHeads) -> bool {
        let Some(mut texts) = self.lock_texts() else { return false };
        texts.get(&key).is_some_and(|known| heads.without(*known).is_empty())
    }

    /// Notes that everything was computed that these heads need of a text.
    pub(super) fn note_text(&self, key: TextKey, heads: ClassifyHeads) {
        let Some(mut texts) = self.lock_texts() else { return };
        let known = texts.get(&key).copied().unwrap_or(ClassifyHeads::NONE);
        texts.put(key, known.or(heads));
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

    fn lock_texts(&self) -> Option<MutexGuard<'_, LruCache<TextKey, ClassifyHeads>>> {
        Some(self.texts.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
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
    use crate::backend::JudgedSpan;

    fn domain() -> Arc<HeadOutputs> {
        Arc::new(HeadOutputs { domain: Some(vec![0.25, 0.75]), ..HeadOutputs::default() })
    }

    fn jailbreak() -> Arc<HeadOutputs> {
        let worst = JudgedSpan { score: 0.5, tokens: 0..1 };
        Arc::new(HeadOutputs { jailbreak: Some(worst), ..HeadOutputs::default() })
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
        assert_eq!((&whole.domain, &whole.jailbreak), (&domain().domain, &jailbreak().jailbreak));
        cache.put(key, &domain());
        assert_eq!(cache.get(key).unwrap().jailbreak, jailbreak().jailbreak);
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
    fn a_text_is_known_for_the_heads_that_were_computed() {
        let cache = WindowCache::new(1);
        let (one, other) = (cache.text_key("one"), cache.text_key("other"));
        assert!(!cache.knows_text(one, ClassifyHeads::DOMAIN));
        cache.note_text(one, ClassifyHeads::DOMAIN);
        assert!(cache.knows_text(one, ClassifyHeads::DOMAIN) && !cache.knows_text(one, ClassifyHeads::ALL));
        cache.note_text(one, ClassifyHeads::ALL);
        assert!(cache.knows_text(one, ClassifyHeads::ALL) && !cache.knows_text(other, ClassifyHeads::DOMAIN));
        cache.note_text(other, ClassifyHeads::DOMAIN);
        assert!(!cache.knows_text(one, ClassifyHeads::DOMAIN), "there is room for one");
    }

    #[test]
    fn without_room_nothing_is_cached() {
        let cache = WindowCache::new(0);
        cache.put(cache.key(0, &[1], None), &domain());
        assert_eq!(cache.get(cache.key(0, &[1], None)), None);
    }
}
