//! Which stages an answer has, by its request's plan and its own header.

use super::collect::{CollectStage, PendingStore};
use super::guard::GuardStage;
use super::unmask::UnmaskStage;
use super::verify::{VerifiedAnswer, VerifyStage};
use super::{AnswerPipeline, AnswerStages};
use crate::openai::{ChatRequest, Format};
use crate::policy::HallucinationAction;
use crate::proxy::attempt::PlannedRequest;
use crate::route::RequestEffects;
use crate::snapshot::Snapshot;
use crate::telemetry::AccessRecord;
use http::StatusCode;

/// An answer whose header has come.
pub(in crate::proxy) struct AnswerStart<'a> {
    pub(in crate::proxy) live: &'a Snapshot,
    pub(in crate::proxy) request: &'a PlannedRequest,
    pub(in crate::proxy) format: Format,
    pub(in crate::proxy) status: StatusCode,
    /// What is needed to store the answer, where it may be stored.
    pub(in crate::proxy) store: Option<Box<PendingStore>>,
}

impl AnswerPipeline {
    /// Whether a request's answer may have stages, as far as is known before its header.
    pub(in crate::proxy) fn is_possible(request: &PlannedRequest, store: Option<&PendingStore>) -> bool {
        let guards = |effects: &RequestEffects| effects.answer.is_some() || !effects.unmask.is_empty();
        store.is_some() || request.plan.all_effects().any(guards)
    }

    /// Sets up the stages of an answer for which they are possible; nothing if it has none.
    pub(in crate::proxy) fn start(start: AnswerStart<'_>, record: &mut AccessRecord) -> Option<Box<Self>> {
        let AnswerStart { live, request, format, status, store } = start;
        if !status.is_success() {
            return None;
        }
        if format == Format::Opaque {
            // No stage can read it.
            record.details().guards.unjudged.push(("answer", "unsupported"));
            return None;
        }
        let store = store.filter(|_| status == StatusCode::OK);
        let effects = request.plan.effects.as_deref();
        let guard = effects.and_then(|effects| effects.answer.as_ref());
        let timeout = live.policy.classifier.deadline;
        let stages = AnswerStages {
            guard: guard.and_then(|guard| GuardStage::new(guard, &live.classifier, timeout)),
            unmask: effects.and_then(|effects| UnmaskStage::new(&effects.unmask)),
            collect: store.map(|store| CollectStage::new(format, request.api, store)),
            verify: verify_stage(live, request, format, record),
        };
        Self::new(format, request.api, stages)
    }
}

/// Sets up the verification that the policy wants, and records where there is no context for one.
fn verify_stage(
    live: &Snapshot,
    planned: &PlannedRequest,
    format: Format,
    record: &mut AccessRecord,
) -> Option<VerifyStage> {
    let effects = planned.plan.effects.as_deref()?;
    let guard = effects.answer.as_ref()?.hallucination;
    if !guard.is_on() || !planned.api.generates_text() {
        return None;
    }
    let request = answered_request(&planned.request, effects);
    let context = request.groundedness_context();
    if context.trim().is_empty() {
        if guard.unverified && effects.needs_facts {
            record.details().guards.unverified_factual = Some(true);
        }
        return None;
    }
    let answer = VerifiedAnswer { format, api: planned.api, request, context };
    (guard.action != HallucinationAction::Off).then(|| VerifyStage::new(answer, guard, &live.classifier))
}

/// The request whose words an answer repeats: where they were masked upstream and are put back, the client's own.
fn answered_request<'a>(own: &'a ChatRequest, effects: &'a RequestEffects) -> &'a ChatRequest {
    effects.request.as_ref().filter(|_| effects.unmask.is_empty()).unwrap_or(own)
}
