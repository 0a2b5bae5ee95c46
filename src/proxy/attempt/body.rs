//! Owns the body of the current attempt, and the API that it is written for.
//!
//! Refuses to know how a request is translated.

use super::super::answer::AnswerHead;
use super::{Attempts, spec_of};
use crate::openai::{AnswerTranslator, Api, TranslatedAnswer, Translation, UsageRequest};
use crate::route::{PlanTarget, added_usage, translation, upstream_body};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use std::time::{SystemTime, UNIX_EPOCH};

impl Attempts {
    /// Undoes what was set in place of the plan's body: it may have been sent.
    pub(in crate::proxy) fn restore_body(&mut self, live: &Snapshot) {
        // What was made once can be made again.
        if let Ok(body) =
            upstream_body(live, self.target(), self.request.upstream_request(), self.request.answer_use())
        {
            self.body = body;
        }
    }

    /// The way from the client's API to the current pool's, where they differ.
    pub(in crate::proxy) fn translation(&self, live: &Snapshot) -> Option<Translation> {
        translation(self.spec(live), self.request.api).ok().flatten()
    }

    /// The API that the current endpoint is asked by.
    pub(in crate::proxy) fn upstream_api(&self, live: &Snapshot) -> Api {
        self.translation(live).map_or(self.request.api, Translation::upstream)
    }

    /// Whether the answer may have to be translated, whichever target gives it.
    pub(in crate::proxy) fn may_be_translated(&self, live: &Snapshot) -> bool {
        let is_translated = |target| translation(spec_of(live, target), self.request.api) != Ok(None);
        self.request.plan.targets.iter().any(is_translated)
    }

    /// Whether an answer may have to name another model than its upstream names, whichever target gives it.
    pub(in crate::proxy) fn may_be_renamed(&self, live: &Snapshot) -> bool {
        let is_renamed = |target: &PlanTarget| target.answer_model(&live.policy).is_some();
        !self.request.api.is_unread() && self.request.plan.targets.iter().any(is_renamed)
    }

    /// How often the current target's stream says what it cost though its client has not asked; nothing if it does not.
    pub(in crate::proxy) fn hidden_usage(&self, live: &Snapshot) -> Option<UsageRequest> {
        self.hidden_usage_of(live, self.target())
    }

    /// Whether any target's stream does.
    pub(in crate::proxy) fn may_hide_usage(&self, live: &Snapshot) -> bool {
        let hides = |target: &PlanTarget| self.hidden_usage_of(live, target).is_some();
        self.request.plan.targets.iter().any(hides)
    }

    fn hidden_usage_of(&self, live: &Snapshot, target: &PlanTarget) -> Option<UsageRequest> {
        added_usage(&live.policy, target, &self.request.request, self.request.answer_use())
    }

    /// The name that the current target's answer gives its model, where the upstream gives another.
    pub(in crate::proxy) fn answer_model<'a>(&'a self, live: &'a Snapshot) -> Option<&'a str> {
        self.target().answer_model(&live.policy).filter(|_| !self.request.api.is_unread())
    }

    /// Starts to translate an answer for the client; gives the head that it has then. Nothing where the APIs are the same.
    pub(in crate::proxy) fn translate_answer(
        &self,
        live: &Snapshot,
        head: AnswerHead,
        request_id: &str,
    ) -> Option<(AnswerHead, AnswerTranslator)> {
        let translation = self.translation(live)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let model = self.target().public_model(&live.policy);
        let kept_as = self.request.is_kept_here(live).then(|| format!("{:032x}", rand::random::<u128>()));
        let answer = TranslatedAnswer { model, request_id, kept_as: kept_as.as_deref(), now };
        let translator = translation.answer(&self.request.request, head.status, head.format, answer)?;
        Some((head.translated(translation.status(head.status)), translator))
    }

    /// Replaces the body of the current attempt.
    pub(in crate::proxy) fn set_body(&mut self, body: Bytes) {
        self.body = body;
    }

    pub(in crate::proxy) fn body(&self) -> &Bytes {
        &self.body
    }
}
