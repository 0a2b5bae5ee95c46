//! Owns a request with its plan, from its admission to its last attempt.
//!
//! Decides nothing about endpoints.

use crate::cache::ResponseScope;
use crate::openai::{Api, ChatRequest};
use crate::route::{AnswerUse, Plan};
use crate::snapshot::Snapshot;

/// A request with its plan.
pub(super) struct PlannedRequest {
    pub(super) api: Api,
    /// As the client sent it.
    pub(super) request: ChatRequest,
    pub(super) plan: Plan,
    /// Those who may have the response that comes of it.
    pub(super) scope: ResponseScope,
}

impl PlannedRequest {
    /// The request as plugins and guards changed it.
    pub(super) fn upstream_request(&self) -> &ChatRequest {
        let changed = self.plan.effects.as_ref().and_then(|effects| effects.request.as_ref());
        changed.unwrap_or(&self.request)
    }

    /// What becomes of its answer, beside that the client gets it.
    pub(super) fn answer_use(&self) -> AnswerUse {
        let is_stored = self.plan.effects.as_ref().is_some_and(|effects| effects.cache.is_some());
        if is_stored { AnswerUse::Stored } else { AnswerUse::Passed }
    }

    /// Whether its response is kept here where its upstream speaks another API.
    pub(super) fn is_kept_here(&self, live: &Snapshot) -> bool {
        self.api == Api::Responses
            && live.policy.responses().keep
            && self.request.field("store").as_deref() != Some("false")
    }

    /// Whether another endpoint may be asked while this one could still answer: a stream of which the upstream keeps
    /// nothing. A whole answer is as late as its last byte.
    pub(super) fn may_be_reissued(&self) -> bool {
        self.request.stream() && self.leaves_nothing()
    }

    /// Whether two endpoints may be asked at once: a stream, or a whole answer that is no longer in coming than a stream's
    /// first byte, of which nothing is kept and for which nothing kept is needed.
    pub(super) fn may_be_hedged(&self) -> bool {
        let is_short = matches!(
            self.api,
            Api::Embeddings
                | Api::Rerank
                | Api::Score
                | Api::Classify
                | Api::Pooling
                | Api::Moderations
                | Api::Tokenize
                | Api::Detokenize
        );
        (self.request.stream() || is_short) && self.leaves_nothing() && !self.request.refers_to_stored()
    }

    /// Whether its upstream keeps nothing of it.
    fn leaves_nothing(&self) -> bool {
        let request = &self.request;
        let stores = request.field("store");
        let is_kept = match self.api {
            // Kept unless the client says otherwise.
            Api::Responses => stores.as_deref() != Some("false"),
            _ => stores.as_deref() == Some("true"),
        };
        !is_kept && request.field("background").as_deref() != Some("true")
    }
}
