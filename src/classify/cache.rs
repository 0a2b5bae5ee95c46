//! What was found in windows before, by their tokens: a bounded number, the least recently used going first.
//!
//! Agents send the whole conversation again with every turn, and only its new windows are computed. Knows nothing
//! of texts, and holds none: a window is known by a keyed hash of 128 bits, so that nobody can prepare two windows
//! that are taken for each other.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::answer::Answer;

/// What a window is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

/// The answers of windows seen before.
pub(super) struct Cache {
    seeds: (RandomState, RandomState),
    answers: Option<Mutex<LruCache<Key, Arc<Answer>>>>,
}

impl Cache {
    /// Makes room for the answers of so many windows; none are kept where that is 0.
    pub(super) fn new(windows: usize) -> Self {
        let answers = NonZeroUsize::new(windows).map(|windows| Mutex::new(LruCache::new(windows)));
        Self { seeds: (RandomState::new(), RandomState::new()), answers }
    }

    /// Returns what the window of these tokens is known by, for the model of that place; of a pair, where its second
    /// text starts tells it from others too.
    pub(super) fn key(&self, model: usize, ids: &[u32], second: Option<usize>) -> Key {
        Key(self.seeds.0.hash_one((model, ids, second)), self.seeds.1.hash_one((model, ids, second)))
    }

    /// Returns what is known of a window, which may be less than is wanted.
    pub(super) fn get(&self, key: Key) -> Option<Arc<Answer>> {
        self.lock()?.get(&key).cloned()
    }

    /// Keeps what was found in a window, with what was known of it before.
    pub(super) fn put(&self, key: Key, answer: &Arc<Answer>) {
        let Some(mut answers) = self.lock() else { return };
        let known = answers.get(&key).filter(|known| knows_more(known, answer));
        let whole = known.map(|known| {
            let mut whole = Answer::clone(answer);
            whole.complete(known);
            Arc::new(whole)
        });
        answers.put(key, whole.unwrap_or_else(|| Arc::clone(answer)));
    }

    fn lock(&self) -> Option<MutexGuard<'_, LruCache<Key, Arc<Answer>>>> {
        Some(self.answers.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn knows_more(known: &Answer, than: &Answer) -> bool {
    !known.questions().without(than.questions()).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Arc<Answer> {
        Arc::new(Answer { domain: Some(vec![0.25, 0.75]), ..Answer::default() })
    }

    fn jailbreak() -> Arc<Answer> {
        Arc::new(Answer { jailbreak: Some(0.5), ..Answer::default() })
    }

    #[test]
    fn a_window_is_known_by_its_tokens_and_its_model() {
        let cache = Cache::new(8);
        cache.put(cache.key(0, &[1, 2], None), &domain());
        assert_eq!(cache.get(cache.key(0, &[1, 2], None)), Some(domain()));
        for (model, ids) in [(1, &[1, 2][..]), (0, &[1]), (0, &[2, 1]), (0, &[1, 2, 0])] {
            assert_eq!(cache.get(cache.key(model, ids, None)), None);
        }
        assert_eq!(cache.get(cache.key(0, &[1, 2], Some(1))), None);
        assert_ne!(cache.key(0, &[1, 2], None), Cache::new(8).key(0, &[1, 2], None));
    }

    #[test]
    fn an_answer_to_one_question_is_completed_by_that_to_another() {
        let cache = Cache::new(8);
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
        let cache = Cache::new(3);
        let keys: Vec<Key> = (0..4).map(|id| cache.key(0, &[id], None)).collect();
        for key in &keys[..3] {
            cache.put(*key, &domain());
        }
        assert!(cache.get(keys[0]).is_some());
        cache.put(keys[3], &domain());
        let kept: Vec<bool> = keys.iter().map(|key| cache.get(*key).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = Cache::new(0);
        cache.put(cache.key(0, &[1], None), &domain());
        assert_eq!(cache.get(cache.key(0, &[1], None)), None);
    }
}
