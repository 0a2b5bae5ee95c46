//! Collects an answer for the response cache.
//!
//! Refuses to know how it is found again: the key was made when the cache was asked.

use crate::cache::{AnswerOrigin, CacheKey, CacheWrite, CachedAnswer, FlightLeader, ResponseCache};
use crate::openai::{AnswerPiece, Api, Assembler, Format, is_empty_answer};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is needed to store an answer.
pub(in crate::proxy) struct PendingStore {
    pub(in crate::proxy) cache: Arc<ResponseCache>,
    pub(in crate::proxy) key: CacheKey,
    pub(in crate::proxy) text: String,
    pub(in crate::proxy) embedding: Option<Arc<[f32]>>,
    pub(in crate::proxy) ttl: Duration,
    pub(in crate::proxy) origin: AnswerOrigin,
    /// Equal requests wait for this answer, until this is dropped.
    pub(in crate::proxy) lead: Option<FlightLeader>,
}

/// An answer that is being collected.
pub(super) struct CollectStage {
    store: Box<PendingStore>,
    assembler: Assembler,
    api: Api,
}

/// A whole answer and where it is to be stored.
pub(super) struct CompletedStore {
    store: Box<PendingStore>,
    answer: Bytes,
}

impl CollectStage {
    pub(super) fn new(format: Format, api: Api, store: Box<PendingStore>) -> Self {
        let assembler = Assembler::new(format, api, store.cache.spec().max_answer_bytes);
        Self { store, assembler, api }
    }

    pub(super) fn take(&mut self, piece: AnswerPiece<'_>) {
        self.assembler.take(piece);
    }

    /// Returns how many bytes are held.
    pub(super) fn held(&self) -> usize {
        self.assembler.held()
    }

    /// Returns the whole answer; nothing if it broke off, reports an error, is too long or says nothing: the next may say more.
    pub(super) fn finish(mut self) -> Option<CompletedStore> {
        let answer = self.assembler.finish().filter(|answer| !is_empty_answer(answer, self.api))?;
        Some(CompletedStore { store: self.store, answer })
    }
}

impl CompletedStore {
    /// Stores the answer and hands it to the requests that wait for it.
    pub(super) fn store(self) {
        let PendingStore { cache, key, text, embedding, ttl, origin, lead } = *self.store;
        let answer = CachedAnswer { body: self.answer, origin };
        tokio::spawn(async move {
            let now = SystemTime::now();
            let write = CacheWrite {
                key: &key,
                text: &text,
                embedding: embedding.as_deref(),
                answer: &answer,
                ttl,
                now,
            };
            if let Err(refusal) = cache.store(write).await {
                tracing::debug!(%refusal, "an answer was not kept");
            }
            // Only now: a request that comes after those that wait finds the answer in the cache.
            if let Some(lead) = lead {
                lead.publish(answer);
            }
        });
    }
}
