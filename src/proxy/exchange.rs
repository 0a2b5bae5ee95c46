//! Owns one request and its answer, from the header to the last byte: what each of Pingora's phases needs of the ones
//! before it.
//!
//! Knows nothing of how bytes come and go; `mod.rs` calls it from the phases.

mod cost;
mod endpoint;
mod held;

use super::answer::{AnswerHead, AnswerOutcome, AnswerPipeline, AnswerStart, PendingStore};
use super::attempt::{AttemptEnd, AttemptLimits, Attempts, FirstAttempt, PickContext};
use super::attempt_failure::{AttemptFailure, LateBytes, NextStep};
use super::client_watch;
use super::hedge::HedgePlan;
use super::held_error::HeldAnswer;
use super::load_report::{is_sampled, load_report};
use super::passthrough::Passthrough;
use super::planned_request::PlannedRequest;
use super::replay::ReplayHandle;
use super::tunnel::Tunnel;
use crate::balance::{ConnectionMark, Endpoint, hash_key};
use crate::openai::{Api, ChatRequest, FirstToken, Format, Rejection, UsageReader, response_id};
use crate::policy::{PoolSpec, Provider};
use crate::server_state::{ActiveRequest, BuffersFull, ConnectionRequest, TooManyRequests};
use crate::snapshot::{ResponseOwner, Snapshot};
use crate::telemetry::{AccessRecord, Metrics, millis};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The log's `error` where the client left before it had the whole answer.
const CLIENT_CLOSED: &str = "client_closed";

/// For how long a request that goes on from a response finds the endpoint that made it.
const RESPONSE_TTL: Duration = Duration::from_secs(3600);

/// One request and its answer, from header to last byte.
pub struct Exchange {
    /// The snapshot of the moment when the request came; a reload does not change it.
    pub(super) live: Arc<Snapshot>,
    pub(super) opened: Instant,
    pub(super) active: ActiveRequest,
    /// How long the client's header is.
    pub(super) header_bytes: usize,
    /// Keeps the client's connection from making room for another.
    pub(super) connection: Option<ConnectionRequest>,
    pub(super) record: AccessRecord,
    pub(super) attempts: Option<Attempts>,
    /// The attempts of a request that is of no inference API.
    pub(super) passthrough: Option<Box<Passthrough>>,
    pub(super) replay: Option<ReplayHandle>,
    /// What of an upstream's answer is held back until it is clear what follows.
    pub(super) held: Option<HeldAnswer>,
    /// What is needed to store the answer in the response cache, until its header comes.
    pub(super) pending_store: Option<Box<PendingStore>>,
    pub(super) answer: AnswerState,
}

/// An attempt that is about to be made.
pub(super) struct BegunAttempt<'a> {
    pub(super) spec: &'a PoolSpec,
    pub(super) endpoint: &'a Endpoint,
    pub(super) is_reconnect: bool,
    /// What may ask a second endpoint beside this one.
    pub(super) hedge: Option<&'a Arc<HedgePlan>>,
    /// Says which of the endpoint's pooled connections may be used.
    pub(super) mark: ConnectionMark,
    pub(super) limits: AttemptLimits,
    /// How long the client's header is.
    pub(super) header_bytes: usize,
}

/// The answer, as far as it has come.
#[derive(Default)]
pub(super) struct AnswerState {
    /// Whose shape errors have.
    pub(super) api: Api,
    /// Whether the client may know which signals matched.
    pub(super) debug: bool,
    /// The page in a browser that may read it.
    pub(super) origin: Option<HeaderValue>,
    /// What its browser is told of that by the request's route, in place of what the upstream says.
    pub(super) route_cors: Option<Box<[(&'static str, String)]>>,
    /// Counts tokens; nothing where the answer's stages do.
    pub(super) usage: Option<UsageReader>,
    pub(super) bytes: usize,
    pub(super) first_byte: Option<Duration>,
    /// Looks for a stream's first token, until it is there.
    pub(super) awaits_token: Option<FirstToken>,
    pub(super) first_token: Option<Duration>,
    pub(super) is_stream: bool,
    /// The WebSocket that was asked for.
    pub(super) tunnel: Option<Tunnel>,
}

impl Exchange {
    pub(super) fn open(live: Arc<Snapshot>, active: ActiveRequest) -> Self {
        let opened = Instant::now();
        Self {
            live,
            opened,
            active,
            header_bytes: 0,
            connection: None,
            record: AccessRecord::default(),
            attempts: None,
            passthrough: None,
            replay: None,
            held: None,
            pending_store: None,
            answer: AnswerState::default(),
        }
    }

    /// Leases a first endpoint for a planned request, which goes to the target at `place` if it can.
    pub(super) fn start(
        &mut self,
        request: PlannedRequest,
        place: usize,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<(), Rejection> {
        let pick = PickContext { live: &self.live, headers, now };
        let first = FirstAttempt { place, opened: self.opened };
        self.attempts = Some(Attempts::start(request, pick, first)?);
        Ok(())
    }

    /// Takes a slot for the request, which has come whole.
    pub(super) fn take_slot(&mut self, keeps_some: bool) -> Result<(), TooManyRequests> {
        if let Some(connection) = &mut self.connection {
            connection.receive_whole();
        }
        self.active.admit(keeps_some)
    }

    /// Holds room for what was copied of the request, beside its header and its body.
    pub(super) fn hold_copies(&mut self) -> Result<(), BuffersFull> {
        let Some(attempts) = &self.attempts else { return Ok(()) };
        let request = &attempts.request;
        let changed = request.plan.effects.as_ref().and_then(|effects| effects.request.as_ref());
        let shares_bytes = attempts.body().as_ptr() == request.upstream_request().body().as_ptr();
        let copies = request.request.footprint() - request.request.body().len()
            + changed.map_or(0, ChatRequest::footprint)
            + if shares_bytes { 0 } else { attempts.body().len() };
        self.active.buffered.grow_to(self.active.buffered.bytes() + copies)
    }

    /// Whether the answer may have stages, as far as is known before its header.
    pub(super) fn may_have_stages(&self) -> bool {
        self.attempts.as_ref().is_some_and(|attempts| {
            AnswerPipeline::is_possible(&attempts.request, self.pending_store.as_deref())
                || attempts.may_be_translated(&self.live)
                || attempts.may_be_renamed(&self.live)
                || attempts.may_hide_usage(&self.live)
        })
    }

    /// Prepares for the answer whose header has come; says whether its stages may change its length. Fails where the
    /// client has to get an error in its place.
    pub(super) fn start_answer(&mut self, head: AnswerHead) -> Result<bool, Rejection> {
        if self.is_credential_refused(head.status) {
            return Err(head.refusal());
        }
        if let Some(id) = self.lost_response(head.status) {
            return Err(Rejection::PreviousResponseUnknown { id });
        }
        if let Some(attempts) = &self.attempts {
            // From here on no other endpoint can answer.
            attempts.deadline.stop_watching();
        }
        let may_have_stages = self.may_have_stages();
        let store = self.pending_store.take();
        if let (Some(replay), Some(attempts), true) = (&self.replay, &self.attempts, may_have_stages) {
            let request = &attempts.request;
            let share = self.active.new_share();
            let translated = attempts.translate_answer(&self.live, head, self.record.own_id());
            let (head, translate) = translated.map_or((head, None), |(head, stage)| (head, Some(stage)));
            let model = attempts.answer_model(&self.live);
            let hidden_usage = attempts.hidden_usage(&self.live);
            let live = &self.live;
            let start = AnswerStart { live, request, head, translate, model, hidden_usage, store, share };
            if let Some(pipeline) = AnswerPipeline::start(start, &mut self.record)? {
                let rewrites = pipeline.rewrites();
                replay.start_answer(pipeline);
                self.answer.is_stream = head.format == Format::EventStream;
                return Ok(rewrites);
            }
        }
        self.answer.is_stream = head.format == Format::EventStream;
        self.answer.usage = Some(UsageReader::new(head.format));
        Ok(false)
    }

    /// Whether an upstream has refused the credential of its pool: its text may repeat a piece of it.
    fn is_credential_refused(&self, status: StatusCode) -> bool {
        let refuses =
            [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
        let attempts = self.attempts.as_ref().filter(|_| refuses.contains(&status));
        attempts.is_some_and(|attempts| attempts.spec(&self.live).credential.is_some())
    }

    /// The response that a request goes on from, where an engine says that it does not have it: another may.
    fn lost_response(&self, status: StatusCode) -> Option<String> {
        let attempts = self.attempts.as_ref().filter(|_| status == StatusCode::NOT_FOUND)?;
        let request = &attempts.request.request;
        let is_engine = attempts.spec(&self.live).api.provider == Provider::Engines;
        let id = request.previous_response().filter(|_| is_engine && request.api() == Api::Responses)?;
        Some(id.into_owned())
    }

    /// Whether a stream's last event has been passed on, whatever the upstream still sends.
    pub(super) fn has_passed_end(&self) -> bool {
        self.answer.usage.as_ref().is_some_and(UsageReader::has_ended)
            || self.replay.as_ref().is_some_and(ReplayHandle::has_passed_end)
    }

    /// How long the engine of the attempt that is about to be made may take to wake, where it sleeps and is woken.
    pub(super) fn sleeping_for(&self) -> Option<Duration> {
        self.attempts.as_ref()?.sleeping_for(&self.live)
    }

    /// Whether the prompt of the attempt that is about to be made may be computed elsewhere.
    pub(super) fn may_prefill(&self) -> bool {
        self.attempts.as_ref().is_some_and(|attempts| attempts.spec(&self.live).prefill.is_some())
    }

    /// Whether an attempt was made before.
    pub(super) fn is_repeated(&self) -> bool {
        self.attempts.as_ref().is_some_and(|attempts| attempts.count() > 1 || attempts.is_reconnect())
    }

    /// Whether the current attempt's endpoint is still to be picked by another process.
    pub(super) fn awaits_external_pick(&self) -> bool {
        self.attempts.as_ref().is_some_and(|attempts| attempts.awaits_external_pick(&self.live))
    }

    /// Tells the external picker that chose the endpoint of the answer's header, and makes the changes that it wants.
    pub(super) async fn report_header(&mut self, response: &mut ResponseHeader) -> pingora::Result<()> {
        let Some(attempts) = &mut self.attempts else { return Ok(()) };
        let served = attempts.endpoint();
        let (Some(picker), Some(served)) = (attempts.picker_session(), served) else { return Ok(()) };
        let changes = picker.report_header(served, response.status, &response.headers).await;
        for name in &changes.remove {
            response.remove_header(name);
        }
        for (name, value) in changes.set {
            response.insert_header(name, value)?;
        }
        Ok(())
    }

    /// Notes that the upstream answers with this status.
    pub(super) fn on_answer(&mut self, status: StatusCode, metrics: &Metrics) {
        if let Some(attempts) = &mut self.attempts {
            attempts.on_answer(status, &self.live, Instant::now, metrics);
        }
    }

    /// Takes over what the answer's header reports of the engine's load.
    pub(super) fn note_load(&self, headers: &HeaderMap) {
        let attempts = self.attempts.as_ref();
        let is_read = |attempts: &&Attempts| attempts.spec(&self.live).probes.metrics.is_some();
        if let Some(attempts) = attempts.filter(is_read)
            && let Some(report) = load_report(headers)
        {
            attempts.note_load_report(report, Instant::now());
        }
    }

    /// Whether the engine is asked for a report of its load: one that has shown its metrics, now and then.
    pub(super) fn asks_for_load(&self) -> bool {
        let Some(attempts) = &self.attempts else { return false };
        attempts.spec(&self.live).probes.metrics.is_some() && is_sampled() && attempts.has_engine_metrics()
    }

    /// What did not come when the upstream's deadline passed.
    pub(super) fn late_bytes(&self, now: Instant) -> LateBytes {
        match &self.attempts {
            Some(attempts) if attempts.deadline.is_over(now) => LateBytes::Last,
            _ if self.answer.first_byte.is_none() => LateBytes::First,
            Some(attempts) if attempts.deadline.is_attempt_over(now) => LateBytes::Last,
            _ => LateBytes::Next,
        }
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
        let (Some(attempts), now) = (&self.attempts, Instant::now()) else { return };
        match &self.answer.tunnel {
            Some(tunnel) => {
                tunnel.await_agreement(now, attempts.spec(&self.live).timeouts.first_byte(true));
            }
            None => attempts.await_first_byte(&self.live, now),
        }
    }

    /// Counts a chunk of the answer and starts the timeout for the next.
    pub(super) fn on_chunk(&mut self, chunk: &[u8], metrics: &Metrics) {
        if chunk.is_empty() {
            // The end: no timeout.
            return;
        }
        let now = Instant::now();
        if let Some(tunnel) = &self.answer.tunnel {
            tunnel.heard(now);
        } else if let Some(attempts) = &self.attempts {
            attempts.deadline.arm(now, attempts.spec(&self.live).timeouts.idle);
        }
        if self.answer.bytes == 0 {
            self.note_response_owner(chunk, now);
            self.answer.awaits_token = self.answer.is_stream.then(FirstToken::default);
        }
        if self.answer.awaits_token.as_mut().is_some_and(|first| first.feed(chunk)) {
            self.answer.awaits_token = None;
            self.answer.first_token = Some(now.saturating_duration_since(self.opened));
        }
        self.answer.bytes += chunk.len();
        self.answer.first_byte.get_or_insert_with(|| now.saturating_duration_since(self.opened));
        if let Some(usage) = &mut self.answer.usage {
            usage.feed(chunk);
        }
        if let Some(picker) = self.attempts.as_mut().and_then(Attempts::picker_session) {
            picker.report_piece(chunk);
        }
        // A stream may open with an event that has no token, as soon as the request is taken.
        let may_be_token = self.answer.usage.as_ref().is_none_or(|usage| usage.events() != 1);
        if let Some(attempts) = self.attempts.as_ref().filter(|_| may_be_token) {
            attempts.token(&self.live, now, metrics);
        }
    }

    /// Notes which endpoint has made a response, so that requests which go on from it find it there.
    fn note_response_owner(&self, first: &[u8], now: Instant) {
        let Some(attempts) = self.attempts.as_ref().filter(|attempts| attempts.request.api == Api::Responses)
        else {
            return;
        };
        if let (Some(id), Some(endpoint)) = (response_id(first), attempts.endpoint()) {
            let owners = &self.live.upstreams.response_owners;
            let target = attempts.target();
            let owner = ResponseOwner {
                endpoint,
                pool: attempts.spec(&self.live).name.as_str().into(),
                model: self.live.policy[target.model].name.as_str().into(),
                scope: attempts.request.scope,
            };
            owners.insert(hash_key(id), owner, now, RESPONSE_TTL);
            if let Some(conversation) = attempts.request.plan.conversation {
                conversation.note_response(&self.live, id, now);
            }
        }
    }

    /// Records that the answer is a rejection, or ended with one.
    pub(super) fn record_rejection(&mut self, rejection: &Rejection) {
        self.record.response.error = Some(rejection.reason());
    }

    pub(super) fn record_client_gone(&mut self) {
        self.record.response.error = Some(CLIENT_CLOSED);
    }

    /// Gives the endpoint back and completes the record; returns what became of an answer that had stages.
    pub(super) fn close(&mut self) -> Option<AnswerOutcome> {
        let is_whole = self.record.response.error.is_none();
        let pipeline = self.replay.take().and_then(ReplayHandle::into_pipeline);
        let outcome = pipeline.map(|pipeline| pipeline.finish(is_whole));
        let usage = match &outcome {
            Some(outcome) => outcome.usage,
            None => self.answer.usage.as_mut().and_then(UsageReader::finish),
        };
        // What is shown again was counted when it was made.
        let usage = self.settle_usage(usage, outcome.as_ref()).filter(|_| !self.answer.api.is_kept());
        self.record_prefill();
        let response = &mut self.record.response;
        response.response_bytes = self.answer.bytes;
        let first_token = self.answer.first_token.or(self.answer.first_byte);
        response.ttft_ms = first_token.map(millis);
        let now = Instant::now();
        response.duration_ms = millis(now.saturating_duration_since(self.opened));
        if let Some(usage) = usage {
            response.prompt_tokens = Some(usage.prompt_tokens);
            response.completion_tokens = Some(usage.completion_tokens);
            // What one engine got from another is cached to it, and was computed all the same.
            let prefill = self.record.details.as_ref().and_then(|details| details.prefill.cached_tokens);
            response.cached_tokens = Some(prefill.unwrap_or(usage.cached_tokens).min(usage.cached_tokens));
        }
        if let Some(attempts) = &mut self.attempts {
            let first_token = first_token.filter(|_| self.answer.is_stream);
            attempts.finish(AttemptEnd {
                now,
                first_token: first_token.map(|after| self.opened + after),
                status: response.status,
                usage,
                is_whole,
                client_gone: response.error == Some(CLIENT_CLOSED),
            });
        }
        if let Some(pass) = &mut self.passthrough {
            pass.finish(response.status, is_whole);
        }
        if response.status == 0 {
            // nginx's status for a client that closed the connection before there was an answer.
            response.status = 499;
        }
        self.record_cost();
        if let Some(outcome) = &outcome {
            outcome.record(&mut self.record);
        }
        outcome
    }
}

impl Drop for Exchange {
    /// Closes an exchange that ends where it stands, because its client has left.
    fn drop(&mut self) {
        if client_watch::has_left() {
            self.record_client_gone();
            self.close();
            client_watch::leave_record(std::mem::take(&mut self.record));
        }
    }
}
