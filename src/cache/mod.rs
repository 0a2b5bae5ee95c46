//! Owns answers kept: found again by an equal request, then by a similar one that asks for the same.
//! Refuses to know what a request looks like on the wire, who may share answers and what is worth keeping: the caller
//! says all that by a key, a text and a time to live.
//!
//! A similar entry is found by its embedding and must then pass a guard of words (`lexical`): an embedding sees two
//! texts as near that differ by one number, one name or one "not".

mod codec;
mod entry;
mod file;
mod flight;
mod lexical;
mod memory;
mod remote;
mod rows;
mod sketch;
mod spec;
mod tally;

pub use entry::{Answer, Filter, Key, Meta};
pub use flight::{Follower, LeadGuard, Turn};
pub use lexical::asks_the_same;
pub use spec::CacheError;

pub use crate::policy::{CacheSpec as Spec, CacheStore as Store};
pub use tally::Stats;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use entry::{Entry, Moment};
use flight::Flights;
use lexical::Guard;
use memory::Memory;
use remote::Remote;
use tally::Tally;

/// The most bytes of a text that is compared; a longer one is found only by an equal request, since an embedding
/// does not see its end.
pub const MOST_TEXT_BYTES: usize = 2048;

/// Answers kept in one place.
#[derive(Debug)]
pub struct Cache {
    spec: Spec,
    backend: Backend,
    flights: Flights,
    tally: Tally,
}

#[derive(Debug)]
enum Backend {
    Memory(Memory),
    Remote(Box<Remote>),
}

/// A request that looks for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What it is known by.
    pub key: &'a Key,
    /// What it asks.
    pub text: &'a str,
    /// Its text's embedding, of unit length.
    pub embedding: Option<&'a [f32]>,
    /// The least cosine of a similar entry; `None` takes an equal one alone.
    pub min_score: Option<f32>,
    /// When it asks.
    pub now: SystemTime,
}

/// An answer to keep.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a> {
    /// What its request is known by.
    pub key: &'a Key,
    /// What was asked.
    pub text: &'a str,
    /// Its text's embedding, of unit length; without one only an equal request finds the answer.
    pub embedding: Option<&'a [f32]>,
    /// The answer.
    pub answer: &'a Answer,
    /// How long it may be given.
    pub ttl: Duration,
    /// When it was given.
    pub now: SystemTime,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// An answer.
    Hit(Hit),
    /// None.
    Miss,
}

/// An answer that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The answer with its origin.
    pub answer: Answer,
    /// How near the request is that it was given to; 1 for an equal one.
    pub score: f32,
    /// How it was found.
    pub kind: HitKind,
    /// How long ago it was given.
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

/// Why an answer was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
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

impl Cache {
    /// Opens the cache that a spec asks for. A server is connected to when it is first needed; a file that cannot be
    /// believed is a warning and an empty cache.
    pub fn open(spec: &Spec) -> Result<Self, CacheError> {
        let memory = Memory::new(spec.max_entries, spec.max_bytes);
        let tally = Tally::default();
        let backend = match &spec.store {
            Store::Memory { persist } => {
                if let Some(path) = persist {
                    restore(&memory, path, spec.max_bytes, &tally);
                }
                Backend::Memory(memory)
            }
            Store::Redis { address, password, prefix, timeout } => {
                let remote = Remote::new(address, password.as_ref(), prefix, *timeout, memory)?;
                Backend::Remote(Box::new(remote))
            }
        };
        Ok(Self { spec: spec.clone(), backend, flights: Flights::default(), tally })
    }

    /// Returns what the cache was opened by.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Looks for an answer: of an equal request, then of the most similar one that asks for the same.
    pub async fn look_up(&self, ask: Ask<'_>) -> Found {
        let hit = match &self.backend {
            Backend::Memory(memory) => self.look_in(memory, ask),
            Backend::Remote(remote) => remote.look_up(ask, &self.tally).await,
        };
        match &hit {
            Some(Hit { kind: HitKind::Exact, .. }) => self.tally.exact_hit(),
            Some(Hit { kind: HitKind::Similar, .. }) => self.tally.similar_hit(),
            None => self.tally.miss(),
        }
        hit.map_or(Found::Miss, Found::Hit)
    }

    /// Keeps an answer in the place of an older one of its key.
    pub async fn store(&self, keep: Keep<'_>) -> Result<(), Refusal> {
        let kept = self.try_store(keep).await;
        match kept {
            Ok(()) => self.tally.stored(),
            Err(_) => self.tally.refused(),
        }
        kept
    }

    /// Throws away what the filter means and returns how many answers that were.
    pub async fn invalidate(&self, filter: &Filter) -> Result<usize, CacheError> {
        match &self.backend {
            Backend::Memory(memory) => Ok(memory.invalidate(filter)),
            Backend::Remote(remote) => remote.invalidate(filter, &self.tally).await,
        }
    }

    /// Leads a request to the upstream, or follows one of its key that is under way.
    pub fn join(&self, key: &Key) -> Turn {
        self.flights.join(key)
    }

    /// Writes the entries to the spec's file, if it names one, and returns how many; blocks on the disk.
    pub fn save(&self) -> Result<usize, CacheError> {
        let (Backend::Memory(memory), Store::Memory { persist: Some(path) }) =
            (&self.backend, &self.spec.store)
        else {
            return Ok(0);
        };
        let entries = memory.entries();
        file::write(path, &entries).map_err(|source| {
            self.tally.error();
            CacheError::Write { path: path.clone(), source }
        })?;
        Ok(entries.len())
    }

    /// Returns what the cache holds and what became of the requests to it.
    pub fn stats(&self) -> Stats {
        let memory = match &self.backend {
            Backend::Memory(memory) => memory,
            Backend::Remote(remote) => remote.mirror(),
        };
        self.tally.read(memory.size())
    }

    fn look_in(&self, memory: &Memory, ask: Ask<'_>) -> Option<Hit> {
        let now = Moment::of(ask.now);
        if let Some(entry) = memory.get(ask.key, now, &self.tally) {
            memory.touch(&entry);
            return Some(entry.hit(1.0, HitKind::Exact, now));
        }
        let (score, entry) = similar(memory, ask, &self.tally).next()?;
        memory.touch(&entry);
        Some(entry.hit(score, HitKind::Similar, now))
    }

    async fn try_store(&self, keep: Keep<'_>) -> Result<(), Refusal> {
        if keep.answer.body.len() > self.spec.max_answer_bytes {
            return Err(Refusal::TooLarge);
        }
        if keep.ttl < Duration::from_millis(1) {
            return Err(Refusal::NoTime);
        }
        let entry = keep.entry();
        match &self.backend {
            Backend::Memory(memory) => {
                memory.insert(entry, &self.tally).then_some(()).ok_or(Refusal::TooLarge)
            }
            Backend::Remote(remote) => remote.store(entry, keep.ttl, Moment::of(keep.now), &self.tally).await,
        }
    }
}

/// Finds the entries that a similar request may have, the nearest first.
fn similar<'a>(
    memory: &Memory,
    ask: Ask<'a>,
    tally: &'a Tally,
) -> impl Iterator<Item = (f32, std::sync::Arc<Entry>)> + use<'a> {
    /// The most entries that are read word by word.
    const MOST_READ: usize = 8;
    let near = match (ask.embedding, ask.min_score) {
        (Some(embedding), Some(min_score)) if ask.text.len() <= MOST_TEXT_BYTES => {
            memory.near(&ask.key.scope, embedding, min_score, Moment::of(ask.now), tally)
        }
        _ => Vec::new(),
    };
    let guard = (!near.is_empty()).then(|| Guard::new(ask.text));
    near.into_iter().take(MOST_READ).filter(move |(_, entry)| {
        let passes = guard.as_ref().is_some_and(|guard| guard.passes(&entry.text));
        if !passes {
            tally.rejected();
        }
        passes
    })
}

impl Entry {
    fn hit(&self, score: f32, kind: HitKind, now: Moment) -> Hit {
        let answer = Answer { body: self.answer.clone(), meta: self.meta.clone() };
        Hit { answer, score, kind, age: now.since(self.stored) }
    }
}

impl Keep<'_> {
    fn entry(&self) -> Entry {
        let stored = Moment::of(self.now);
        // Without an embedding the text is of no use, and a long text's embedding is not believed.
        let comparable = self.embedding.filter(|_| self.text.len() <= MOST_TEXT_BYTES);
        Entry {
            key: *self.key,
            text: if comparable.is_some() { self.text.into() } else { "".into() },
            embedding: comparable.map(Into::into),
            // A slice of a larger buffer would keep all of it alive, uncounted.
            answer: Bytes::copy_from_slice(&self.answer.body),
            meta: self.answer.meta.clone(),
            stored,
            expires: stored.after(self.ttl),
            used: AtomicU64::new(0),
        }
    }
}

/// Fills the cache from its file.
fn restore(memory: &Memory, path: &Path, max_bytes: usize, tally: &Tally) {
    match file::read(path, max_bytes) {
        Ok(entries) => {
            for entry in entries {
                memory.insert(entry, tally);
            }
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "the cache's file is not used"),
    }
}

#[cfg(test)]
mod tests;
