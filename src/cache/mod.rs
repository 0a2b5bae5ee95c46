//! The response cache: answers by the request that they were given to, found again by an equal request, then by a
//! similar one that asks the same question.
//!
//! Refuses to know what a request looks like on the wire, who may share answers and which are worth storing: the caller
//! decides that by a key, a text and a time to live.
//!
//! A similar entry is found by its embedding and must then pass the text guard (`text_guard`) or a judge of paraphrases: two
//! texts that differ by one number, one name or one "not" have nearly the same embedding.

mod codec;
mod counters;
mod entry;
mod error;
mod file;
mod memory;
mod remote;
mod responses;
mod rows;
mod single_flight;
mod sketch;
mod text_guard;

pub use counters::CacheStats;
pub use entry::{AnswerOrigin, CacheKey, CachedAnswer};
pub use error::CacheError;
pub use responses::{ResponseScope, ResponseStore};
pub use single_flight::{FlightFollower, FlightLeader, FlightRole};
pub use text_guard::{is_same_question, may_be_paraphrase};

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;

use counters::CacheCounters;
use entry::{CacheEntry, UnixMillis};
use memory::MemoryStore;
use remote::{RedisLink, RemoteStore};
use single_flight::SingleFlight;
use text_guard::TextGuard;

use crate::policy::{CacheSpec, CacheStore};

/// The most bytes of a text that is compared; a longer one is found only by an equal request, since an embedding
/// does not see its end.
pub const MAX_TEXT_BYTES: usize = 2048;

/// The answers of one store, which is this process's memory or a server's.
#[derive(Debug)]
pub struct ResponseCache {
    spec: CacheSpec,
    backend: CacheBackend,
    single_flight: SingleFlight,
    counters: Arc<CacheCounters>,
}

#[derive(Debug)]
enum CacheBackend {
    Memory(MemoryStore),
    Remote(Box<RemoteStore>),
}

/// The least likeness of a kept question that a judge is asked about.
pub const LEAST_JUDGED: f32 = 0.6;

/// Tells whether kept questions ask for the same as a new one, beyond what a comparison of their words tells.
pub trait QuestionJudge: std::fmt::Debug + Send + Sync {
    /// Says of each kept question, in their order, whether its answer answers the new one; `false` where that is unknown.
    fn judge<'a>(&'a self, question: &'a str, kept: &'a [&'a str]) -> BoxFuture<'a, Vec<bool>>;
}

/// A look-up.
#[derive(Debug, Clone, Copy)]
pub struct EntryQuery<'a> {
    /// The request's key.
    pub key: &'a CacheKey,
    /// The text whose embedding this is, for the text guard.
    pub text: &'a str,
    /// Of unit length; without one only an equal request's answer is found.
    pub embedding: Option<&'a [f32]>,
    /// The least cosine of a similar entry, from -1 to 1; `None` takes an equal request's answer alone.
    pub min_score: Option<f32>,
    /// Who is asked about entries that words do not tell to be the same, from [`LEAST_JUDGED`] on whatever the least cosine.
    pub judge: Option<&'a dyn QuestionJudge>,
    /// Entries whose lifetime is over by then are no hits.
    pub now: SystemTime,
}

/// An answer to store.
#[derive(Debug, Clone, Copy)]
pub struct CacheWrite<'a> {
    /// The request's key; an older answer of the same key is replaced.
    pub key: &'a CacheKey,
    /// The text whose embedding this is, for the text guard.
    pub text: &'a str,
    /// Of unit length; without one only an equal request finds the answer.
    pub embedding: Option<&'a [f32]>,
    /// The answer.
    pub answer: &'a CachedAnswer,
    /// How long it may be given, at least a millisecond.
    pub ttl: Duration,
    /// When its lifetime begins.
    pub now: SystemTime,
}

/// An answer that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheHit {
    /// The answer with its origin.
    pub answer: CachedAnswer,
    /// The cosine of the two requests; 1 for an equal one.
    pub score: f32,
    /// How it was found.
    pub kind: HitKind,
    /// How long ago it was stored.
    pub age: Duration,
}

/// How an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitKind {
    /// By an equal request.
    Exact,
    /// By a similar request.
    Similar,
}

/// Why an answer was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is longer than one answer may be, or than all may be together.
    #[error("the answer is too large")]
    TooLarge,
    /// It may be given for no time at all.
    #[error("the answer's time is over at once")]
    NoTime,
    /// The server does not take it.
    #[error("the cache's server is away")]
    Away,
}

impl ResponseCache {
    /// Opens the cache that a spec asks for. A server is connected to when it is first needed; a file that cannot be
    /// believed is a warning and an empty cache.
    pub fn open(spec: &CacheSpec) -> Result<Self, CacheError> {
        let counters: Arc<CacheCounters> = Arc::default();
        let memory = MemoryStore::new(spec.max_entries, spec.max_bytes, Arc::clone(&counters));
        let backend = match &spec.store {
            CacheStore::Memory { persist } => {
                if let Some(path) = persist {
                    restore(&memory, path, spec.max_bytes);
                }
                CacheBackend::Memory(memory)
            }
            CacheStore::Redis { address, password, prefix, timeout } => {
                let link = RedisLink::new(address, password.as_ref(), *timeout, Arc::clone(&counters))?;
                CacheBackend::Remote(Box::new(RemoteStore::new(link, prefix, memory)))
            }
        };
        Ok(Self { spec: spec.clone(), backend, single_flight: SingleFlight::default(), counters })
    }

    /// Returns what the cache was opened by.
    pub fn spec(&self) -> &CacheSpec {
        &self.spec
    }

    /// Looks for the answer to an equal request, then for that to the most similar one with the same question.
    pub async fn look_up(&self, query: EntryQuery<'_>) -> Option<CacheHit> {
        match &self.backend {
            CacheBackend::Memory(memory) => look_up_in_memory(memory, query).await,
            CacheBackend::Remote(remote) => remote.look_up(query).await,
        }
    }

    /// Stores an answer, in the place of an older one of its key.
    pub async fn store(&self, write: CacheWrite<'_>) -> Result<(), StoreError> {
        let kept = self.try_store(write).await;
        let counter = if kept.is_ok() { &self.counters.stored } else { &self.counters.refused };
        counter.add(1);
        kept
    }

    /// Throws an answer away; fails if its server does not.
    pub async fn remove(&self, key: &CacheKey) -> Result<(), StoreError> {
        match &self.backend {
            CacheBackend::Memory(memory) => {
                memory.remove(key);
                Ok(())
            }
            CacheBackend::Remote(remote) => remote.remove(key).await,
        }
    }

    /// Makes a request the leader of its key, or a follower of the one under way.
    pub fn join(&self, key: &CacheKey) -> FlightRole {
        self.single_flight.join(key)
    }

    /// Writes the entries to the spec's file, if it names one, and returns how many; blocks on the disk.
    pub fn save(&self) -> Result<usize, CacheError> {
        let (CacheBackend::Memory(memory), CacheStore::Memory { persist: Some(path) }) =
            (&self.backend, &self.spec.store)
        else {
            return Ok(0);
        };
        let entries = memory.entries();
        file::write(path, &entries).map_err(|source| {
            self.counters.store_errors.add(1);
            CacheError::Write { path: path.clone(), source }
        })?;
        Ok(entries.len())
    }

    /// Returns what the cache holds and what it did.
    pub fn stats(&self) -> CacheStats {
        let memory = match &self.backend {
            CacheBackend::Memory(memory) => memory,
            CacheBackend::Remote(remote) => remote.mirror(),
        };
        let (entries, bytes) = memory.size();
        CacheStats { entries: entries as u64, bytes: bytes as u64, ..self.counters.read() }
    }

    async fn try_store(&self, write: CacheWrite<'_>) -> Result<(), StoreError> {
        if write.answer.body.len() > self.spec.max_answer_bytes {
            return Err(StoreError::TooLarge);
        }
        if write.ttl < Duration::from_millis(1) {
            return Err(StoreError::NoTime);
        }
        let entry = write.entry();
        match &self.backend {
            CacheBackend::Memory(memory) => memory.insert(entry).then_some(()).ok_or(StoreError::TooLarge),
            CacheBackend::Remote(remote) => remote.store(entry, write.ttl).await,
        }
    }
}

async fn look_up_in_memory(memory: &MemoryStore, query: EntryQuery<'_>) -> Option<CacheHit> {
    let now = UnixMillis::of(query.now);
    if let Some(entry) = memory.get(query.key, now) {
        memory.touch(&entry);
        return Some(entry.hit(1.0, HitKind::Exact, now));
    }
    let (score, entry) = similar(memory, query).await.into_iter().next()?;
    memory.touch(&entry);
    Some(entry.hit(score, HitKind::Similar, now))
}

/// Finds the entries that a similar request may have, the nearest first: those that words tell to be the same, or else those
/// that the judge does.
async fn similar(memory: &MemoryStore, query: EntryQuery<'_>) -> Vec<(f32, Arc<CacheEntry>)> {
    /// The most entries whose texts are compared.
    const MAX_COMPARED: usize = 8;
    let (Some(embedding), Some(min_score)) = (query.embedding, query.min_score) else { return Vec::new() };
    if query.text.len() > MAX_TEXT_BYTES {
        return Vec::new();
    }
    let least = query.judge.map_or(min_score, |_| min_score.min(LEAST_JUDGED));
    let mut near = memory.near(&query.key.scope, embedding, least, UnixMillis::of(query.now));
    near.truncate(MAX_COMPARED);
    if near.is_empty() {
        return near;
    }
    let guard = TextGuard::new(query.text);
    let by_words = |(score, entry): &(f32, Arc<CacheEntry>)| *score >= min_score && guard.passes(&entry.text);
    let (same, mut others): (Vec<_>, Vec<_>) = near.into_iter().partition(by_words);
    let mut refused = others.len();
    let mut found = same;
    if let Some(judge) = query.judge.filter(|_| found.is_empty()) {
        others.retain(|(_, entry)| guard.may_be_paraphrase(&entry.text));
        let texts: Vec<&str> = others.iter().map(|(_, entry)| &*entry.text).collect();
        let verdicts = if texts.is_empty() { Vec::new() } else { judge.judge(query.text, &texts).await };
        let judged = others.iter().zip(verdicts).filter(|(_, is_same)| *is_same);
        found = judged.map(|((score, entry), _)| (*score, Arc::clone(entry))).collect();
        refused -= found.len();
    }
    memory.count_guard_rejections(refused);
    found
}

impl CacheEntry {
    fn hit(&self, score: f32, kind: HitKind, now: UnixMillis) -> CacheHit {
        let answer = CachedAnswer { body: self.answer.clone(), origin: self.origin.clone() };
        CacheHit { answer, score, kind, age: now.since(self.stored) }
    }
}

impl CacheWrite<'_> {
    fn entry(&self) -> CacheEntry {
        let stored = UnixMillis::of(self.now);
        // Without an embedding the text is of no use, and a long text's embedding is not believed.
        let comparable = self.embedding.filter(|_| self.text.len() <= MAX_TEXT_BYTES);
        CacheEntry {
            key: *self.key,
            text: if comparable.is_some() { self.text.into() } else { "".into() },
            embedding: comparable.map(Into::into),
            // A slice of a larger buffer would keep all of it alive, uncounted.
            answer: Bytes::copy_from_slice(&self.answer.body),
            origin: self.answer.origin.clone(),
            stored,
            expires: stored.after(self.ttl),
            used: AtomicU64::new(0),
        }
    }
}

/// Fills the cache from its file.
fn restore(memory: &MemoryStore, path: &Path, max_bytes: usize) {
    match file::read(path, max_bytes) {
        Ok(entries) => {
            for entry in entries {
                memory.insert(entry);
            }
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "the cache's file is not used"),
    }
}

#[cfg(test)]
mod tests;
