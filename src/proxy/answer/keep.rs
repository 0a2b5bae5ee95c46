//! Keeps a response that its upstream does not keep, before its client knows that it is whole: what goes on from it may come
//! at once.
//!
//! Refuses to know how it is found again.

use crate::cache::{ResponseScope, ResponseStore};
use crate::openai::{AnswerPiece, Api, Assembler, ChatRequest, Format, StoredResponse};
use crate::policy::KeptResponses;
use std::sync::Arc;

/// How the events begin that end a response and hold it whole.
const ENDS: [&[u8]; 2] = [b"event: response.completed\n", b"event: response.incomplete\n"];

/// A response that is to be kept.
pub(super) struct KeepStage {
    store: Arc<ResponseStore>,
    scope: ResponseScope,
    request: ChatRequest,
    /// Nothing once it is kept.
    assembler: Option<Assembler>,
    is_whole: bool,
}

impl KeepStage {
    pub(super) fn new(
        store: &Arc<ResponseStore>,
        scope: ResponseScope,
        request: &ChatRequest,
        format: Format,
        spec: &KeptResponses,
    ) -> Self {
        let assembler = Some(Assembler::new(format, Api::Responses, spec.max_response_bytes));
        Self { store: Arc::clone(store), scope, request: request.clone(), assembler, is_whole: false }
    }

    pub(super) fn take(&mut self, piece: AnswerPiece<'_>) {
        if let AnswerPiece::Event(frame) = piece {
            self.is_whole |= ENDS.iter().any(|end| frame.raw().starts_with(end));
        }
        if let Some(assembler) = &mut self.assembler {
            assembler.take(piece);
        }
    }

    /// Returns how many bytes are held.
    pub(super) fn held(&self) -> usize {
        self.assembler.as_ref().map_or(0, Assembler::held)
    }

    /// Keeps the response once all of it has come; `is_last` with the last piece.
    pub(super) async fn keep(&mut self, is_last: bool) {
        if !self.is_whole && !is_last {
            return;
        }
        let Some(response) = self.assembler.take().and_then(|mut assembler| assembler.finish()) else {
            return;
        };
        let Some(stored) = StoredResponse::new(&self.request, &response) else { return };
        let Some(id) = stored.id() else { return };
        if let Err(refusal) = self.store.put(self.scope, &id, stored.json().clone()).await {
            tracing::warn!(%refusal, "a response is not kept: nothing can go on from it");
        }
    }
}
