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

mod link;
mod names;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use redis::{Pipeline, Value};

use super::codec::{Part, decode, decode_head, encode};
use super::entry::{Entry, Filter, Key, Moment};
use super::memory::Memory;
use super::spec::CacheError;
use super::tally::Tally;
use super::{Ask, Hit, HitKind, Refusal, similar};
use crate::policy::Secret;
use link::Link;
use names::Names;

/// About the most texts of a scope that are found by similarity.
const MOST_ROWS: usize = 2000;

/// The most records of a stream that one command brings.
const PAGE: usize = 256;

/// The most commands that bring a scope up to date in one look-up.
const MOST_PAGES: usize = 8;

/// The most scopes whose place in their stream is remembered; a forgotten one is read anew.
const MOST_SCOPES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The most similar entries whose answers are fetched.
const MOST_FETCHED: usize = 3;

/// The most keys that one step of an invalidation looks at, about.
const STEP: usize = 500;

/// The most steps of an invalidation.
const MOST_STEPS: usize = 100_000;

/// The most bytes of an answer that its origin is read from.
const HEAD: usize = 4096;

/// What a stream is read from at first.
const START: &str = "0-0";

/// Entries in a server.
#[derive(Debug)]
pub(super) struct Remote {
    link: Link,
    names: Names,
    /// Texts and embeddings, without answers.
    mirror: Memory,
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
struct Reading<'a> {
    remote: &'a Remote,
    scope: [u8; 32],
    last: String,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.remote.cursors().put(self.scope, Cursor { last, is_busy: false });
    }
}

impl Remote {
    pub(super) fn new(
        address: &str,
        password: Option<&Secret>,
        prefix: &str,
        timeout: Duration,
        mirror: Memory,
    ) -> Result<Self, CacheError> {
        let link = Link::new(address, password, timeout)?;
        let cursors = Mutex::new(LruCache::new(MOST_SCOPES));
        Ok(Self { link, names: Names::new(prefix), mirror, cursors })
    }

    /// Returns what this process holds of the server's entries.
    pub(super) fn mirror(&self) -> &Memory {
        &self.mirror
    }

    pub(super) async fn look_up(&self, ask: Ask<'_>, tally: &Tally) -> Option<Hit> {
        let now = Moment::of(ask.now);
        let is_similar = ask.embedding.is_some() && ask.min_score.is_some();
        let mut reading = if is_similar { self.read_on(ask.key.scope) } else { None };
        let mut pipe = redis::pipe();
        pipe.get(self.names.answer(ask.key));
        if let Some(reading) = &reading {
            self.page(&mut pipe, reading);
        }
        let mut replies = self.link.run::<Vec<Value>>(&pipe, Some(now), tally).await?.into_iter();
        let exact = replies.next().and_then(|reply| answer_of(reply, ask.key, now));
        if let (Some(reading), Some(page)) = (&mut reading, replies.next()) {
            let mut length = self.take_in(reading, page, now, tally);
            for _ in 1..MOST_PAGES {
                if exact.is_some() || length < PAGE {
                    break;
                }
                let mut pipe = redis::pipe();
                self.page(&mut pipe, reading);
                let replies = self.link.run::<Vec<Value>>(&pipe, Some(now), tally).await?;
                length = replies.into_iter().map(|page| self.take_in(reading, page, now, tally)).sum();
            }
        }
        drop(reading);
        match exact {
            Some(entry) => Some(entry.hit(1.0, HitKind::Exact, now)),
            None if is_similar => self.look_around(ask, now, tally).await,
            None => None,
        }
    }

    pub(super) async fn store(
        &self,
        entry: Entry,
        ttl: Duration,
        now: Moment,
        tally: &Tally,
    ) -> Result<(), Refusal> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(MOST_TTL_MS);
        let mut packed = Vec::new();
        encode(&entry, Part::Answer, &mut packed);
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(self.names.answer(&entry.key)).arg(packed).arg("PX").arg(ttl_ms).ignore();
        if entry.embedding.is_some() {
            let stream = self.names.stream(&entry.key.scope);
            let mut packed = Vec::new();
            encode(&entry, Part::Question, &mut packed);
            pipe.cmd("XADD").arg(&stream).arg("MAXLEN").arg("~").arg(MOST_ROWS);
            pipe.arg("*").arg("q").arg(packed).ignore();
            pipe.cmd("PEXPIRE").arg(&stream).arg(ttl_ms).ignore();
        }
        self.link.run::<()>(&pipe, Some(now), tally).await.ok_or(Refusal::Away)
    }

    /// Throws away what the filter means, here and in the server.
    pub(super) async fn invalidate(&self, filter: &Filter, tally: &Tally) -> Result<usize, CacheError> {
        self.mirror.invalidate(filter);
        match filter {
            Filter::All => {
                self.sweep(&self.names.all_streams(), None, tally).await?;
                self.sweep(&self.names.all_answers(), None, tally).await
            }
            Filter::Scope(scope) => {
                self.unlink(vec![self.names.stream(scope).into()], tally).await?;
                self.sweep(&self.names.answers_of(scope), None, tally).await
            }
            Filter::Entry(key) => self.unlink(vec![self.names.answer(key).into()], tally).await,
            Filter::Model(_) | Filter::Decision(_) | Filter::Tenant(_) => {
                self.sweep(&self.names.all_answers(), Some(filter), tally).await
            }
        }
    }

    /// Looks for a similar entry in the mirror and fetches its answer.
    async fn look_around(&self, ask: Ask<'_>, now: Moment, tally: &Tally) -> Option<Hit> {
        let found: Vec<_> = similar(&self.mirror, ask, tally).take(MOST_FETCHED).collect();
        for (score, entry) in found {
            let mut pipe = redis::pipe();
            pipe.get(self.names.answer(&entry.key));
            let replies = self.link.run::<Vec<Value>>(&pipe, Some(now), tally).await?;
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
    fn read_on(&self, scope: [u8; 32]) -> Option<Reading<'_>> {
        let mut cursors = self.cursors();
        let cursor = cursors.get_or_insert_mut(scope, || Cursor { last: START.to_owned(), is_busy: false });
        if cursor.is_busy {
            return None;
        }
        cursor.is_busy = true;
        Some(Reading { remote: self, scope, last: cursor.last.clone() })
    }

    fn page(&self, pipe: &mut Pipeline, reading: &Reading<'_>) {
        pipe.cmd("XREAD").arg("COUNT").arg(PAGE);
        pipe.arg("STREAMS").arg(self.names.stream(&reading.scope)).arg(&reading.last);
    }

    /// Takes a page of a stream into the mirror and returns its length.
    fn take_in(&self, reading: &mut Reading<'_>, page: Value, now: Moment, tally: &Tally) -> usize {
        type Records = Vec<(String, Vec<Vec<u8>>)>;
        let page = redis::from_redis_value::<Option<Vec<(Value, Records)>>>(page);
        let records: Records =
            page.ok().flatten().into_iter().flatten().flat_map(|(_, records)| records).collect();
        for (id, fields) in &records {
            let entry = fields.get(1).and_then(|packed| decode(packed));
            let entry = entry.filter(|entry| entry.key.scope == reading.scope && !entry.is_over(now));
            if let Some(entry) = entry {
                self.mirror.insert(entry, tally);
            }
            reading.last.clone_from(id);
        }
        records.len()
    }

    /// Removes the keys of a pattern, only those that the filter means where there is one.
    async fn sweep(
        &self,
        pattern: &str,
        filter: Option<&Filter>,
        tally: &Tally,
    ) -> Result<usize, CacheError> {
        let (mut cursor, mut removed) = (0_u64, 0);
        for _ in 0..MOST_STEPS {
            let mut pipe = redis::pipe();
            pipe.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
            let step = self.link.run::<Vec<(u64, Vec<Vec<u8>>)>>(&pipe, None, tally).await;
            let (next, keys) = step.and_then(|step| step.into_iter().next()).ok_or(CacheError::Away)?;
            let keys = match filter {
                Some(filter) => self.meant(keys, filter, tally).await?,
                None => keys,
            };
            removed += self.unlink(keys, tally).await?;
            if next == 0 {
                break;
            }
            cursor = next;
        }
        Ok(removed)
    }

    /// Keeps the keys whose answers are of an origin that the filter means.
    async fn meant(
        &self,
        keys: Vec<Vec<u8>>,
        filter: &Filter,
        tally: &Tally,
    ) -> Result<Vec<Vec<u8>>, CacheError> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let mut pipe = redis::pipe();
        for key in &keys {
            pipe.cmd("GETRANGE").arg(key).arg(0).arg(HEAD - 1);
        }
        let heads = self.link.run::<Vec<Vec<u8>>>(&pipe, None, tally).await.ok_or(CacheError::Away)?;
        let is_meant = |head: &[u8]| decode_head(head).is_some_and(|(key, meta)| filter.matches(&key, &meta));
        Ok(keys.into_iter().zip(heads).filter(|(_, head)| is_meant(head)).map(|(key, _)| key).collect())
    }

    async fn unlink(&self, keys: Vec<Vec<u8>>, tally: &Tally) -> Result<usize, CacheError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut pipe = redis::pipe();
        pipe.cmd("UNLINK").arg(keys);
        let removed = self.link.run::<Vec<usize>>(&pipe, None, tally).await.ok_or(CacheError::Away)?;
        Ok(removed.into_iter().sum())
    }

    fn cursors(&self) -> MutexGuard<'_, LruCache<[u8; 32], Cursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest that a server keeps an answer: ten years, since it takes no arbitrary number.
const MOST_TTL_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Reads an answer, if it is that key's and its time is not over.
fn answer_of(reply: Value, key: &Key, now: Moment) -> Option<Entry> {
    let packed = redis::from_redis_value::<Option<Vec<u8>>>(reply).ok()??;
    decode(&packed).filter(|entry| entry.key == *key && !entry.is_over(now))
}
