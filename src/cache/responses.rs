//! Responses by their ids, kept for those who may have them.
//!
//! Refuses to know what a response looks like, and whose it is: the caller says that by a scope.

use super::{
    AnswerOrigin, CacheError, CacheKey, CacheWrite, CachedAnswer, EntryQuery, ResponseCache, StoreError,
};
use crate::policy::CacheSpec;
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use std::time::{Duration, SystemTime};

/// Responses that were made here, each for a while.
#[derive(Debug)]
pub struct ResponseStore {
    entries: ResponseCache,
    ttl: Duration,
}

/// Those who share what is kept.
pub type ResponseScope = [u8; 32];

impl ResponseStore {
    /// Opens a store; a server is connected to when it is first needed.
    pub fn open(spec: &CacheSpec, ttl: Duration) -> Result<Self, CacheError> {
        Ok(Self { entries: ResponseCache::open(spec)?, ttl })
    }

    /// Whether it was opened by this.
    pub fn is_of(&self, spec: &CacheSpec, ttl: Duration) -> bool {
        self.entries.spec() == spec && self.ttl == ttl
    }

    /// Finds a response.
    pub async fn get(&self, scope: ResponseScope, id: &str) -> Option<Bytes> {
        let key = key(scope, id);
        let query = EntryQuery {
            key: &key,
            text: "",
            embedding: None,
            min_score: None,
            judge: None,
            now: SystemTime::now(),
        };
        Some(self.entries.look_up(query).await?.answer.body)
    }

    /// Keeps a response.
    pub async fn put(&self, scope: ResponseScope, id: &str, body: Bytes) -> Result<(), StoreError> {
        let answer = CachedAnswer { body, origin: AnswerOrigin::default() };
        let write = CacheWrite {
            key: &key(scope, id),
            text: "",
            embedding: None,
            answer: &answer,
            ttl: self.ttl,
            now: SystemTime::now(),
        };
        self.entries.store(write).await
    }

    /// Throws a response away; fails if its server does not.
    pub async fn remove(&self, scope: ResponseScope, id: &str) -> Result<(), StoreError> {
        self.entries.remove(&key(scope, id)).await
    }
}

fn key(scope: ResponseScope, id: &str) -> CacheKey {
    let exact = digest(&SHA256, id.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes");
    CacheKey { scope, exact }
}
