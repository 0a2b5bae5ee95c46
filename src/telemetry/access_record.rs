//! Owns what is read out of a record more than once: for its headers, its labels and its counters.
//!
//! Which facts there are, `facts` says.

use super::facts::{AccessRecord, DecisionRecord, GuardRecord, PrefillRecord, RecordDetails};
use super::values::ResponsePath;

impl AccessRecord {
    /// The details, made where there were none yet.
    pub fn details(&mut self) -> &mut RecordDetails {
        self.details.get_or_insert_default()
    }

    /// The id that was made here, whatever the client sent.
    pub fn own_id(&self) -> &str {
        self.gateway_request_id.as_ref().unwrap_or(&self.request_id)
    }

    /// The recipe whose decisions were asked, if it is not the policy's own list.
    pub fn recipe(&self) -> Option<&str> {
        self.details.as_ref()?.decision.recipe.as_deref()
    }

    /// The prefill by another pool's endpoint, where there was one: what was predicted and cached of the prompt was there.
    pub(super) fn remote_prefill(&self) -> Option<&PrefillRecord> {
        Some(&self.details.as_ref()?.prefill).filter(|prefill| prefill.cached_tokens.is_some())
    }

    /// Where the prompt was computed, or why not elsewhere.
    pub(super) fn prefill_result(&self) -> Option<&'static str> {
        self.details.as_ref()?.prefill.result
    }

    /// The model as a label: empty where none was chosen.
    pub(super) fn model(&self) -> &str {
        self.routing.model.as_deref().unwrap_or_default()
    }

    pub(super) fn decision(&self) -> &str {
        self.routing.decision.as_deref().unwrap_or_default()
    }

    pub(super) fn decision_details(&self) -> Option<&DecisionRecord> {
        Some(&self.details.as_ref()?.decision)
    }

    pub(super) fn guards(&self) -> Option<&GuardRecord> {
        Some(&self.details.as_ref()?.guards)
    }

    /// What guards found, if that is what one refused the request for.
    pub(super) fn blocked_for(&self, reason: &str) -> Option<&GuardRecord> {
        self.guards().filter(|guards| guards.blocked == Some(reason))
    }

    pub(super) fn is_unverified(&self) -> bool {
        let unverified = self.guards().is_some_and(|guards| guards.unverified_factual == Some(true));
        unverified && self.response.response_path == ResponsePath::Upstream
    }
}
