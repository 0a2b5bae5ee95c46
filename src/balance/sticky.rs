//! Owns what each session is bound to, a model or an endpoint, until its time to live is over.
//! Refuses to know what a session is but a key, what it is bound to, and what time it is.
//!
//! Over the `lru` crate rather than moka: here time is an argument and the bound holds after every call, where moka
//! has a clock of its own and evicts in maintenance runs some time later.

use super::lock;
use lru::LruCache;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Shards with a lock each, so that requests seldom wait for one another.
const SHARDS: usize = 16;

/// The most sessions, in all shards together.
const CAPACITY: usize = 65_536;

/// What sessions are bound to, the names of models unless said otherwise: at most 65,536, about 10 MB when full.
///
/// When one of the 16 shards is full, its least recently used session makes room. Names are kept, not ids, so that
/// sessions outlive a reload: a name that no model has any more is the caller's to pass over. A call takes one lock
/// for tens of nanoseconds.
#[derive(Debug)]
pub struct StickySessions<T = Arc<str>> {
    shards: [Mutex<LruCache<u64, StickySession<T>>>; SHARDS],
    capacity_of_each: usize,
}

#[derive(Debug)]
struct StickySession<T> {
    held: T,
    since: Instant,
    ttl: Duration,
}

impl<T> StickySession<T> {
    fn is_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.ttl
    }
}

impl<T> Default for StickySessions<T> {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl<T> StickySessions<T> {
    fn with_capacity(capacity: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(LruCache::unbounded()));
        Self { shards, capacity_of_each: capacity.div_ceil(SHARDS).max(1) }
    }

    /// How many sessions there are, expired ones that no call has met yet too.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: u64) -> &Mutex<LruCache<u64, StickySession<T>>> {
        // The remainder spreads keys that are numbers as well as those that are hashes.
        &self.shards[key as usize % SHARDS]
    }
}

impl<T: Clone> StickySessions<T> {
    /// Finds what a session is bound to at `now`.
    pub fn get(&self, key: u64, now: Instant) -> Option<T> {
        let mut shard = lock(self.shard(key));
        let session = shard.get(&key)?;
        if session.is_expired(now) {
            shard.pop(&key);
            return None;
        }
        Some(session.held.clone())
    }

    /// Binds a session from `now` on, for `ttl`; both replace those before.
    pub fn insert(&self, key: u64, held: impl Into<T>, now: Instant, ttl: Duration) {
        let mut shard = lock(self.shard(key));
        if !shard.contains(&key) && shard.len() >= self.capacity_of_each {
            shard.pop_lru();
        }
        shard.push(key, StickySession { held: held.into(), since: now, ttl });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const MINUTE: Duration = Duration::from_secs(60);

    fn model_of(sessions: &StickySessions, key: u64, now: Instant) -> Option<String> {
        sessions.get(key, now).map(|name| name.to_string())
    }

    #[test]
    fn a_session_keeps_its_model_until_it_expires() {
        let (sessions, now) = (StickySessions::default(), Instant::now());
        assert_eq!(model_of(&sessions, 7, now), None);
        sessions.insert(7, "small", now, MINUTE);
        assert_eq!(model_of(&sessions, 7, now + MINUTE / 2).as_deref(), Some("small"));
        sessions.insert(7, "small", now + MINUTE / 2, MINUTE);
        assert_eq!(model_of(&sessions, 7, now + MINUTE).as_deref(), Some("small"));
        sessions.insert(7, "large", now + MINUTE, MINUTE);
        assert_eq!(model_of(&sessions, 7, now + MINUTE).as_deref(), Some("large"));
        assert_eq!(model_of(&sessions, 7, now + MINUTE * 2), None);
        assert!(sessions.is_empty(), "an expired session goes when a call meets it");
    }

    #[test]
    fn the_least_recently_used_session_makes_room() {
        let (sessions, now) = (StickySessions::with_capacity(2 * SHARDS), Instant::now());
        let key = |number: u64| number * SHARDS as u64;
        sessions.insert(key(1), "a", now, MINUTE);
        sessions.insert(key(2), "b", now, MINUTE);
        assert!(sessions.get(key(1), now).is_some());
        sessions.insert(key(3), "c", now, MINUTE);
        assert_eq!(model_of(&sessions, key(2), now), None);
        assert_eq!(model_of(&sessions, key(1), now).as_deref(), Some("a"));
        assert_eq!(model_of(&sessions, key(3), now).as_deref(), Some("c"));
    }

    #[test]
    fn no_time_and_endless_time_are_times() {
        let (sessions, now) = (StickySessions::default(), Instant::now());
        sessions.insert(1, "a", now, Duration::ZERO);
        sessions.insert(2, "a", now, Duration::MAX);
        assert_eq!(model_of(&sessions, 1, now), None);
        assert_eq!(model_of(&sessions, 2, now + MINUTE).as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn the_last_model_is_kept_and_never_more_sessions_than_the_capacity(
            steps in prop::collection::vec((0_u64..80, 0_usize..3, 0_u64..90), 1..300),
        ) {
            let (sessions, mut now) = (StickySessions::with_capacity(32), Instant::now());
            let mut last = HashMap::new();
            for (key, model, wait) in steps {
                now += Duration::from_secs(wait / 30);
                let name = ["a", "b", "c"][model];
                sessions.insert(key, name, now, MINUTE);
                last.insert(key, (name, now));
                prop_assert_eq!(model_of(&sessions, key, now), Some(name.to_owned()));
                prop_assert!(sessions.len() <= 32);
                for (key, (name, since)) in &last {
                    if let Some(found) = model_of(&sessions, *key, now) {
                        prop_assert_eq!(&found, name);
                        prop_assert!(now - *since < MINUTE);
                    }
                }
            }
        }
    }
}
