//! Owns one request and its answer, from the header to the last byte: what each of Pingora's phases needs of the ones
//! before it.
//!
//! Knows nothing of how bytes come and go; `mod.rs` calls it from the phases.

use super::answer::{AnswerPipeline, GuardSettings, VerifyOutcome, VerifyStage};
use super::attempt::{AttemptEnd, AttemptFailure, Attempts, NextStep, PickContext, PlannedRequest};
use super::cache_lookup::PendingStore;
use super::replay::{PipelineSlot, ReplayHandle};
use crate::openai::{Format, Rejection, UsageReader};
use crate::policy::{AnswerGuard, PoolSpec};
use crate::route::RequestEffects;
use crate::server_state::ActiveRequest;
use crate::snapshot::Snapshot;
use crate::telemetry::{AccessRecord, CostRecord, Metrics, UpstreamRecord, millis};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The log's `error` where the client left before it had the whole answer.
const CLIENT_CLOSED: &str = "client_closed";

/// One request and its answer, from header to last byte.
pub struct Exchange {
    /// The snapshot of the moment when the request came; a reload does not change it.
    pub(super) live: Arc<Snapshot>,
    pub(super) opened: Instant,
    pub(super) active: ActiveRequest,
    pub(super) record: AccessRecord,
    pub(super) attempts: Option<Attempts>,
    pub(super) replay: Option<ReplayHandle>,
    /// What stands between the answer and the client, where anything does.
    pub(super) pipeline: Option<PipelineSlot>,
    /// What is needed to keep the answer.
    pub(super) pending_store: Option<Box<PendingStore>>,
    /// A whole answer that is to be kept.
    pub(super) completed_store: Option<(Box<PendingStore>, Bytes)>,
    /// An answer that has gone out and is still to be judged.
    pub(super) verification: Option<Box<VerifyStage>>,
    /// What was found out about an answer before it went out.
    pub(super) outcome: Option<VerifyOutcome>,
    /// Whether the client may know which signals matched.
    pub(super) debug: bool,
    pub(super) answer: AnswerState,
}

/// An attempt that is about to be made.
pub(super) struct BegunAttempt<'a> {
    pub(super) spec: &'a PoolSpec,
    pub(super) endpoint: SocketAddr,
    pub(super) is_reconnect: bool,
}

/// The answer, as far as it has come.
#[derive(Default)]
pub(super) struct AnswerState {
    pub(super) usage: Option<UsageReader>,
    pub(super) bytes: usize,
    pub(super) first_byte: Option<Duration>,
    pub(super) is_stream: bool,
}

impl Exchange {
    pub(super) fn open(live: Arc<Snapshot>, active: ActiveRequest) -> Self {
        let opened = Instant::now();
        Self {
            live,
            opened,
            active,
            record: AccessRecord::default(),
            attempts: None,
            replay: None,
            pipeline: None,
            pending_store: None,
            completed_store: None,
            verification: None,
            outcome: None,
            debug: false,
            answer: AnswerState::default(),
        }
    }

    /// Leases a first endpoint for a planned request.
    pub(super) fn start(
        &mut self,
        request: PlannedRequest,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<(), Rejection> {
        let pick = PickContext { live: &self.live, headers, now };
        let attempts = Attempts::start(request, pick, self.opened)?;
        let watches = |effects: &RequestEffects| effects.answer.is_some() || !effects.unmask.is_empty();
        if self.pending_store.is_some() || attempts.request.plan.effects.as_deref().is_some_and(watches) {
            self.pipeline = Some(PipelineSlot::default());
        }
        self.attempts = Some(attempts);
        Ok(())
    }

    /// Puts what the plan wants between the answer and the client; says whether the answer's length may change.
    pub(super) fn start_answer(&mut self, format: Format, status: StatusCode) -> bool {
        let (Some(slot), Some(attempts)) = (&self.pipeline, &self.attempts) else { return false };
        let readable = matches!(format, Format::Json | Format::EventStream);
        if !readable || !status.is_success() {
            self.pending_store = None;
            if status.is_success() {
                // Whatever it is, nothing here can read it.
                self.record.details().guards.unjudged.push(("answer", "unsupported"));
            }
            return false;
        }
        let api = attempts.request.api;
        if status != StatusCode::OK {
            self.pending_store = None;
        }
        let effects = attempts.request.plan.effects.as_deref();
        let watches = |effects: &&RequestEffects| {
            effects.answer.as_ref().is_some_and(AnswerGuard::watches) || !effects.unmask.is_empty()
        };
        let guard_settings = effects.filter(watches);
        let guard_settings = guard_settings.map(|effects| GuardSettings {
            guard: effects.answer.clone().unwrap_or_default(),
            unmask: effects.unmask.clone(),
            classifier: Arc::clone(&self.live.classifier),
            timeout: self.live.policy.classifier.deadline,
        });
        let keep = self.pending_store.as_ref().map(|pending_store| pending_store.max_answer_bytes());
        let slot = Arc::clone(slot);
        let pipeline =
            AnswerPipeline::new(format, api, guard_settings, keep).verified(self.verification(format));
        let revises = pipeline.revises();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(pipeline));
        revises
    }

    /// Keeps what was sent, if it was whole, and notes what was done to it.
    fn finish_answer(&mut self, whole: bool) {
        let slot = self.pipeline.take();
        let pipeline = slot.and_then(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(mut pipeline) = pipeline else { return };
        if let Some(reason) = pipeline.unjudged() {
            self.record.details().guards.unjudged.push(("answer", reason.as_str()));
        }
        if let Some(did) = pipeline.did() {
            self.record.details().guards.answer_guard = Some(did);
        }
        (self.outcome, self.verification) = pipeline.judged();
        if let Some(outcome) = &self.outcome {
            outcome.note(&mut self.record.details().guards);
        }
        self.verification = self.verification.take().filter(|_| whole);
        if let (true, Some(pending_store)) = (whole, self.pending_store.take())
            && let Some(answer) = pipeline.whole()
        {
            self.completed_store = Some((pending_store, answer));
        }
    }

    /// Keeps the answer, unless it is known to make things up: then it is not given again.
    pub(super) fn store(completed_store: Option<(Box<PendingStore>, Bytes)>, judged: Option<&VerifyOutcome>) {
        if let Some((pending_store, answer)) =
            completed_store.filter(|_| !judged.is_some_and(VerifyOutcome::doubts))
        {
            pending_store.store(answer);
        }
    }

    fn record_cost(&mut self) {
        let Some(attempts) = &self.attempts else { return };
        let Some(price) = &self.live.policy[attempts.target().model].price else { return };
        let response = &self.record.response;
        let (Some(prompt), Some(completion)) = (response.prompt_tokens, response.completion_tokens) else {
            return;
        };
        let amount = price.cost(prompt, response.cached_tokens.unwrap_or_default(), completion);
        let currency = price.currency.clone();
        self.record.details().cost = CostRecord { amount: Some(amount), currency: Some(currency) };
    }

    /// Records the attempt that is about to be made.
    pub(super) fn begin_attempt(&mut self) -> Option<BegunAttempt<'_>> {
        let attempts = self.attempts.as_ref()?;
        let endpoint = attempts.endpoint()?;
        let spec = attempts.spec(&self.live);
        if attempts.is_fallback() {
            self.record.routing.model = Some(self.live.policy[attempts.target().model].name.clone());
        }
        self.record.upstream = UpstreamRecord {
            pool: Some(spec.name.clone()),
            endpoint: Some(endpoint),
            tries: attempts.count(),
        };
        Some(BegunAttempt { spec, endpoint, is_reconnect: attempts.is_reconnect() })
    }

    /// Decides what follows a failure of the current attempt, and prepares it.
    pub(super) fn next(
        &mut self,
        failure: AttemptFailure,
        headers: &HeaderMap,
        metrics: &Metrics,
    ) -> NextStep {
        let Some(attempts) = &mut self.attempts else { return NextStep::GiveUp(Rejection::Internal) };
        attempts.next(failure, PickContext { live: &self.live, headers, now: Instant::now() }, metrics)
    }

    /// Starts the timeout for the answer's first byte.
    pub(super) fn await_first_byte(&self) {
        if let Some(attempts) = &self.attempts {
            attempts.deadline.arm(Instant::now(), attempts.spec(&self.live).timeouts.first_byte);
        }
    }

    /// Counts a chunk of the answer and starts the timeout for the next.
    pub(super) fn on_chunk(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            // The end: no timeout.
            return;
        }
        let now = Instant::now();
        if let Some(attempts) = &self.attempts {
            attempts.deadline.arm(now, attempts.spec(&self.live).timeouts.idle);
        }
        self.answer.bytes += chunk.len();
        self.answer.first_byte.get_or_insert_with(|| now.saturating_duration_since(self.opened));
        if let Some(usage) = &mut self.answer.usage {
            usage.feed(chunk);
        }
    }

    /// Records that the answer is a rejection, or ended with one.
    pub(super) fn record_rejection(&mut self, rejection: &Rejection) {
        self.record.response.error = Some(rejection.reason());
    }

    pub(super) fn record_client_gone(&mut self) {
        self.record.response.error = Some(CLIENT_CLOSED);
    }

    /// Gives the endpoint back and completes the record.
    pub(super) fn close(&mut self) {
        let response = &mut self.record.response;
        response.response_bytes = self.answer.bytes;
        response.ttft_ms = self.answer.first_byte.map(millis);
        response.duration_ms = millis(self.opened.elapsed());
        if let Some(usage) = self.answer.usage.as_mut().and_then(UsageReader::finish) {
            response.prompt_tokens = Some(usage.prompt_tokens);
            response.completion_tokens = Some(usage.completion_tokens);
            response.cached_tokens = Some(usage.cached_tokens);
        }
        if let Some(attempts) = &mut self.attempts {
            let first_byte = self.answer.first_byte.filter(|_| self.answer.is_stream);
            attempts.finish(AttemptEnd {
                now: Instant::now(),
                first_byte: first_byte.map(|after| self.opened + after),
                status: response.status,
                completion_tokens: response.completion_tokens.unwrap_or_default(),
                is_whole: response.error.is_none(),
                client_gone: response.error == Some(CLIENT_CLOSED),
            });
        }
        if response.status == 0 {
            // nginx's status for a client that closed the connection before there was an answer.
            response.status = 499;
        }
        let whole = response.error.is_none();
        self.record_cost();
        self.finish_answer(whole);
    }
}
