//! Which stages an answer has, by its request's plan and its own header.

use super::collect::{CollectStage, PendingStore};
use super::guard::GuardStage;
use super::keep::KeepStage;
use super::unmask::UnmaskStage;
use super::verify::{VerifiedAnswer, VerifyStage};
use super::{AnswerPipeline, AnswerStages};
use crate::openai::{AnswerTranslator, ChatRequest, Format, ModelRenamer, Rejection, UsageRequest};
use crate::policy::HallucinationAction;
use crate::proxy::planned_request::PlannedRequest;
use crate::route::RequestEffects;
use crate::server_state::BufferShare;
use crate::snapshot::Snapshot;
use crate::telemetry::AccessRecord;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// What an answer's header says of how it is to be read.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct AnswerHead {
    pub(in crate::proxy) format: Format,
    pub(in crate::proxy) status: StatusCode,
    /// There is no body.
    is_empty: bool,
    /// When to come back, in answers that are errors.
    retry_after: Option<Duration>,
}

impl AnswerHead {
    /// Reads a header; what is compressed can be read as little as what is no text.
    pub(in crate::proxy) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let is_plain = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .all(|value| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity"));
        let format = if is_plain { Format::of(text(CONTENT_TYPE)) } else { Format::Opaque };
        let retry_after = || text(RETRY_AFTER)?.parse().ok().map(Duration::from_secs);
        Self {
            format,
            status,
            // Of what can be read, its reader sees how long it is.
            is_empty: format == Format::Opaque
                && (text(CONTENT_LENGTH) == Some("0") || status == StatusCode::NO_CONTENT),
            retry_after: if status.is_success() { None } else { retry_after() },
        }
    }

    /// The head of the answer once it is translated: a stream, or a document in JSON, errors too.
    pub(in crate::proxy) fn translated(self, status: StatusCode) -> Self {
        let is_stream = self.format == Format::EventStream && self.status.is_success();
        let format = if is_stream { Format::EventStream } else { Format::Json };
        Self { format, status, is_empty: false, ..self }
    }

    /// What the client gets in place of an error whose own text may not go out.
    pub(in crate::proxy) fn refusal(&self) -> Rejection {
        Rejection::UpstreamRefused { status: self.status, retry_after: self.retry_after }
    }
}

/// An answer whose header has come.
pub(in crate::proxy) struct AnswerStart<'a> {
    pub(in crate::proxy) live: &'a Snapshot,
    pub(in crate::proxy) request: &'a PlannedRequest,
    pub(in crate::proxy) head: AnswerHead,
    /// What makes the answer one of the client's API, where its upstream speaks another; the head is the client's already.
    pub(in crate::proxy) translate: Option<AnswerTranslator>,
    /// The name that the answer gives its model, where its upstream gives another.
    pub(in crate::proxy) model: Option<&'a str>,
    /// How often the upstream was asked to say what its stream costs, where the client has not asked.
    pub(in crate::proxy) hidden_usage: Option<UsageRequest>,
    /// What is needed to store the answer, where it may be stored.
    pub(in crate::proxy) store: Option<Box<PendingStore>>,
    /// What the stages hold counts here.
    pub(in crate::proxy) share: BufferShare,
}

impl AnswerPipeline {
    /// Whether a request's answer may have stages, as far as is known before its header.
    pub(in crate::proxy) fn is_possible(request: &PlannedRequest, store: Option<&PendingStore>) -> bool {
        let guards = |effects: &RequestEffects| effects.answer.is_some() || !effects.unmask.is_empty();
        store.is_some() || request.plan.all_effects().any(guards)
    }

    /// Sets up the stages of an answer for which they are possible; nothing if it has none. Fails where the answer may
    /// not go out because no guard can read it.
    pub(in crate::proxy) fn start(
        start: AnswerStart<'_>,
        record: &mut AccessRecord,
    ) -> Result<Option<Box<Self>>, Rejection> {
        let AnswerStart { live, request, head, translate, model, hidden_usage, store, share } = start;
        let effects = request.plan.effects.as_deref();
        let answer = effects.and_then(|effects| effects.answer.as_ref());
        let timeout = live.policy.classifier.guard_timeout;
        let guard = answer
            .and_then(|guard| GuardStage::new(guard, &live.classifier, guard.timeout.unwrap_or(timeout)));
        let unmask = effects.and_then(|effects| UnmaskStage::new(&effects.unmask));
        if head.format == Format::Opaque {
            if head.is_empty || (answer.is_none() && unmask.is_none()) {
                return Ok(None);
            }
            // No stage can read it.
            record.details().guards.unjudged.push(("answer", "unsupported"));
            return match guard {
                Some(guard) if guard.rejects_unjudged() && head.status.is_success() => {
                    Err(Rejection::AnswerUnjudged { reason: "unsupported" })
                }
                Some(guard) if guard.rejects_unjudged() => Err(head.refusal()),
                _ => Ok(None),
            };
        }
        let (format, is_success) = (head.format, head.status.is_success());
        let store = store.filter(|_| head.status == StatusCode::OK);
        let stages = AnswerStages {
            hidden_usage: hidden_usage.filter(|_| translate.is_none() && format == Format::EventStream),
            rename: model
                .filter(|_| is_success && translate.is_none())
                .map(|name| ModelRenamer::new(format, name)),
            keep: (is_success && translate.is_some() && request.is_kept_here(live))
                .then(|| keep_stage(live, request, format)),
            translate,
            guard,
            unmask,
            collect: store.map(|store| CollectStage::new(format, request.api, store)),
            verify: if is_success { verify_stage(live, request, format, record) } else { None },
        };
        Ok(Self::new(format, request.api, stages, share))
    }
}

/// Sets up the keeping of a response that its upstream knows nothing of.
fn keep_stage(live: &Snapshot, request: &PlannedRequest, format: Format) -> KeepStage {
    let spec = live.policy.responses();
    KeepStage::new(&live.responses, request.scope, &request.request, format, spec)
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
