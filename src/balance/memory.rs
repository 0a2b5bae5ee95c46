//! Owns which model each conversation has, for as long as the conversation goes on.
//! Refuses to know what a conversation is but a key, what a model is but a name, and what time it is.

use super::lock;
use lru::LruCache;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Parts with a lock each, so that requests seldom wait for one another.
const SHARDS: usize = 16;

/// Conversations remembered at most, in all parts together.
const CAPACITY: usize = 65_536;

/// The models that conversations have: at most 65,536 conversations, about 10 MB when full.
///
/// When one of its 16 parts is full, the conversation of that part that was asked for or held the longest ago makes
/// room. Names are kept, not ids, so that the memory outlives a reload: a name that no model has any more is the
/// caller's to pass over. A call takes one lock for tens of nanoseconds.
#[derive(Debug)]
pub struct Conversations {
    shards: [Mutex<LruCache<u64, Held>>; SHARDS],
    capacity_of_each: usize,
}

/// What is known of one conversation.
#[derive(Debug)]
struct Held {
    model: Arc<str>,
    since: Instant,
    ttl: Duration,
}

impl Held {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.ttl
    }
}

impl Default for Conversations {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Conversations {
    fn with_capacity(capacity: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(LruCache::unbounded()));
        Self { shards, capacity_of_each: capacity.div_ceil(SHARDS).max(1) }
    }

    /// Finds the name of the model that a conversation has at `now`.
    pub fn held(&self, key: u64, now: Instant) -> Option<Arc<str>> {
        let mut shard = lock(self.shard(key));
        let held = shard.get(&key)?;
        if held.is_over(now) {
            shard.pop(&key);
            return None;
        }
        Some(Arc::clone(&held.model))
    }

    /// Remembers from `now` on, for `ttl`, that a conversation has a model; a shorter or longer time and another
    /// model replace those before.
    pub fn hold(&self, key: u64, model: &str, now: Instant, ttl: Duration) {
        let mut shard = lock(self.shard(key));
        if let Some(held) = shard.get_mut(&key) {
            (held.since, held.ttl) = (now, ttl);
            if *held.model != *model {
                held.model = model.into();
            }
            return;
        }
        if shard.len() >= self.capacity_of_each {
            shard.pop_lru();
        }
        shard.push(key, Held { model: model.into(), since: now, ttl });
    }

    /// How many conversations are remembered, those whose time is over too.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: u64) -> &Mutex<LruCache<u64, Held>> {
        // The remainder spreads keys that are numbers as well as those that are hashes.
        &self.shards[key as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const MINUTE: Duration = Duration::from_secs(60);

    fn held(conversations: &Conversations, key: u64, now: Instant) -> Option<String> {
        conversations.held(key, now).map(|name| name.to_string())
    }

    #[test]
    fn a_conversation_keeps_its_model_until_its_time_is_over() {
        let (conversations, now) = (Conversations::default(), Instant::now());
        assert_eq!(held(&conversations, 7, now), None);
        conversations.hold(7, "small", now, MINUTE);
        assert_eq!(held(&conversations, 7, now + MINUTE / 2).as_deref(), Some("small"));
        conversations.hold(7, "small", now + MINUTE / 2, MINUTE);
        assert_eq!(held(&conversations, 7, now + MINUTE).as_deref(), Some("small"));
        conversations.hold(7, "large", now + MINUTE, MINUTE);
        assert_eq!(held(&conversations, 7, now + MINUTE).as_deref(), Some("large"));
        assert_eq!(held(&conversations, 7, now + MINUTE * 2), None);
        assert!(conversations.is_empty(), "what is over is forgotten when it is asked for");
    }

    #[test]
    fn the_conversation_unused_for_longest_makes_room() {
        let (conversations, now) = (Conversations::with_capacity(2 * SHARDS), Instant::now());
        let key = |number: u64| number * SHARDS as u64;
        conversations.hold(key(1), "a", now, MINUTE);
        conversations.hold(key(2), "b", now, MINUTE);
        assert!(conversations.held(key(1), now).is_some());
        conversations.hold(key(3), "c", now, MINUTE);
        assert_eq!(held(&conversations, key(2), now), None);
        assert_eq!(held(&conversations, key(1), now).as_deref(), Some("a"));
        assert_eq!(held(&conversations, key(3), now).as_deref(), Some("c"));
    }

    #[test]
    fn no_time_and_endless_time_are_times() {
        let (conversations, now) = (Conversations::default(), Instant::now());
        conversations.hold(1, "a", now, Duration::ZERO);
        conversations.hold(2, "a", now, Duration::MAX);
        assert_eq!(held(&conversations, 1, now), None);
        assert_eq!(held(&conversations, 2, now + MINUTE).as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_the_last_that_was_held_and_never_too_much(
            steps in prop::collection::vec((0_u64..80, 0_usize..3, 0_u64..90), 1..300),
        ) {
            let (conversations, mut now) = (Conversations::with_capacity(32), Instant::now());
            let mut last = HashMap::new();
            for (key, model, wait) in steps {
                now += Duration::from_secs(wait / 30);
                let name = ["a", "b", "c"][model];
                conversations.hold(key, name, now, MINUTE);
                last.insert(key, (name, now));
                prop_assert_eq!(held(&conversations, key, now), Some(name.to_owned()));
                prop_assert!(conversations.len() <= 32);
                for (key, (name, since)) in &last {
                    if let Some(found) = held(&conversations, *key, now) {
                        prop_assert_eq!(&found, name);
                        prop_assert!(now - *since < MINUTE);
                    }
                }
            }
        }
    }
}
