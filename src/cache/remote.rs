//! Owns the entries that a Redis or Valkey server holds, so that processes share them.
//! Refuses to fail a request: a server that is away is a miss, counted, and is left alone for a moment.
//!
//! Plain commands alone, no module of the server's. Below the prefix stand
//!
//! - `a:<scope>:<exact>`, one answer with its origin, which ends by itself, and
//! - `s:<scope>`, a stream of the newest 2,000 or so texts and embeddings of a scope, without answers.
//!
//! Every look-up by similarity asks in one round trip for the equal request's answer and for what the stream has new,
//! keeps that in this process as the mirror, and searches there. A found entry's answer is then fetched; one that is
//! gone leaves the mirror. The server bounds the bytes by its `maxmemory`; the mirror is bounded like a cache.

mod keys;
mod link;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use redis::{Pipeline, Value};

use super::codec::{EntryPart, decode, encode};
use super::entry::{CacheEntry, CacheKey, UnixMillis};
use super::memory::MemoryStore;
use super::{CacheHit, EntryQuery, HitKind, StoreError, similar};
use keys::RedisKeys;
pub(super) use link::RedisLink;

/// About the most texts of a scope that are found by similarity.
const MAX_ROWS: usize = 2000;

/// The most records of a stream that one command brings.
const PAGE: usize = 256;

/// The most commands that bring a scope up to date in one look-up.
const MAX_PAGES: usize = 8;

/// The most scopes whose place in their stream is remembered; a forgotten one is read anew.
const MAX_SCOPES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The most similar entries whose answers are fetched.
const MAX_FETCHED: usize = 3;

/// What a stream is read from at first.
const START: &str = "0-0";

/// Entries in a server.
#[derive(Debug)]
pub(super) struct RemoteStore {
    link: RedisLink,
    keys: RedisKeys,
    /// Texts and embeddings, without answers.
    mirror: MemoryStore,
    cursors: Mutex<LruCache<[u8; 32], Cursor>>,
}

/// How far a stream is read.
#[derive(Debug, Clone)]
struct Cursor {
    last: String,
    /// Whether a look-up is reading it just now; others search in what is there.
    is_busy: bool,
}

/// The right to read on in a scope's stream; it ends with this value.
struct StreamRead<'a> {
    remote: &'a RemoteStore,
    scope: [u8; 32],
    last: String,
}

impl Drop for StreamRead<'_> {
    fn drop(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.remote.cursors().put(self.scope, Cursor { last, is_busy: false });
    }
}

impl RemoteStore {
    pub(super) fn new(link: RedisLink, prefix: &str, mirror: MemoryStore) -> Self {
        let cursors = Mutex::new(LruCache::new(MAX_SCOPES));
        Self { link, keys: RedisKeys::new(prefix), mirror, cursors }
    }

    /// Returns what this process holds of the server's entries.
    pub(super) fn mirror(&self) -> &MemoryStore {
        &self.mirror
    }

    pub(super) async fn look_up(&self, query: EntryQuery<'_>) -> Option<CacheHit> {
        let now = UnixMillis::of(query.now);
        let is_similar = query.embedding.is_some() && query.min_score.is_some();
        let mut stream = if is_similar { self.claim_stream(query.key.scope) } else { None };
        let mut pipe = redis::pipe();
        pipe.get(self.keys.answer(query.key));
        if let Some(stream) = &stream {
            self.page(&mut pipe, stream);
        }
        let mut replies = self.link.run::<Vec<Value>>(&pipe).await?.into_iter();
        let exact = replies.next().and_then(|reply| answer_of(reply, query.key, now));
        if let (Some(stream), Some(page)) = (&mut stream, replies.next()) {
            let mut length = self.apply_page(stream, page, now);
            for _ in 1..MAX_PAGES {
                if exact.is_some() || length < PAGE {
                    break;
                }
                let mut pipe = redis::pipe();
                self.page(&mut pipe, stream);
                let replies = self.link.run::<Vec<Value>>(&pipe).await?;
                length = replies.into_iter().map(|page| self.apply_page(stream, page, now)).sum();
            }
        }
        drop(stream);
        match exact {
            Some(entry) => Some(entry.hit(1.0, HitKind::Exact, now)),
            None if is_similar => self.look_up_similar(query, now).await,
            None => None,
        }
    }

    pub(super) async fn store(&self, entry: CacheEntry, ttl: Duration) -> Result<(), StoreError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(MAX_TTL_MS);
        let mut packed = Vec::new();
        encode(&entry, EntryPart::Answer, &mut packed);
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(self.keys.answer(&entry.key)).arg(packed).arg("PX").arg(ttl_ms).ignore();
        if entry.embedding.is_some() {
            let stream = self.keys.stream(&entry.key.scope);
            let mut packed = Vec::new();
            encode(&entry, EntryPart::Question, &mut packed);
            pipe.cmd("XADD").arg(&stream).arg("MAXLEN").arg("~").arg(MAX_ROWS);
            pipe.arg("*").arg("q").arg(packed).ignore();
            pipe.cmd("PEXPIRE").arg(&stream).arg(ttl_ms).ignore();
        }
        self.link.run::<()>(&pipe).await.ok_or(StoreError::Away)
    }

    /// Deletes an answer.
    pub(super) async fn remove(&self, key: &CacheKey) -> Result<(), StoreError> {
        self.mirror.remove(key);
        let mut pipe = redis::pipe();
        pipe.cmd("DEL").arg(self.keys.answer(key)).ignore();
        self.link.run::<()>(&pipe).await.ok_or(StoreError::Away)
    }

    /// Looks for a similar entry in the mirror and fetches its answer.
    async fn look_up_similar(&self, query: EntryQuery<'_>, now: UnixMillis) -> Option<CacheHit> {
        let found = similar(&self.mirror, query).await;
        for (score, entry) in found.into_iter().take(MAX_FETCHED) {
            let mut pipe = redis::pipe();
            pipe.get(self.keys.answer(&entry.key));
            let replies = self.link.run::<Vec<Value>>(&pipe).await?;
            let answer = replies.into_iter().next().and_then(|reply| answer_of(reply, &entry.key, now));
            if let Some(answer) = answer {
                self.mirror.touch(&entry);
                return Some(answer.hit(score, HitKind::Similar, now));
            }
            self.mirror.remove(&entry.key);
        }
        None
    }

    /// Takes the right to read on in a scope's stream, unless another look-up has it.
    fn claim_stream(&self, scope: [u8; 32]) -> Option<StreamRead<'_>> {
        let mut cursors = self.cursors();
        let cursor = cursors.get_or_insert_mut(scope, || Cursor { last: START.to_owned(), is_busy: false });
        if cursor.is_busy {
            return None;
        }
        cursor.is_busy = true;
        Some(StreamRead { remote: self, scope, last: cursor.last.clone() })
    }

    fn page(&self, pipe: &mut Pipeline, stream: &StreamRead<'_>) {
        pipe.cmd("XREAD").arg("COUNT").arg(PAGE);
        pipe.arg("STREAMS").arg(self.keys.stream(&stream.scope)).arg(&stream.last);
    }

    /// Takes a page of a stream into the mirror and returns its length.
    fn apply_page(&self, stream: &mut StreamRead<'_>, page: Value, now: UnixMillis) -> usize {
        type Records = Vec<(String, Vec<Vec<u8>>)>;
        let page = redis::from_redis_value::<Option<Vec<(Value, Records)>>>(page);
        let records: Records =
            page.ok().flatten().into_iter().flatten().flat_map(|(_, records)| records).collect();
        for (id, fields) in &records {
            let entry = fields.get(1).and_then(|packed| decode(packed));
            let entry = entry.filter(|entry| entry.key.scope == stream.scope && !entry.is_expired(now));
            if let Some(entry) = entry {
                self.mirror.insert(entry);
            }
            stream.last.clone_from(id);
        }
        records.len()
    }

    fn cursors(&self) -> MutexGuard<'_, LruCache<[u8; 32], Cursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest that a server keeps an answer: ten years, since it takes no arbitrary number.
const MAX_TTL_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Reads an answer, if it is that key's and its time is not over.
fn answer_of(reply: Value, key: &CacheKey, now: UnixMillis) -> Option<CacheEntry> {
    let packed = redis::from_redis_value::<Option<Vec<u8>>>(reply).ok()??;
    decode(&packed).filter(|entry| entry.key == *key && !entry.is_expired(now))
}
