//! Owns one request and its answer: what is known of it at each phase, and which attempt comes next.
//!
//! Knows nothing of how bytes come and go; `mod.rs` tells it what happened.

use super::answer::{AnswerPipeline, GuardSettings, VerifyOutcome, VerifyStage};
use super::cache_lookup::PendingStore;
use super::deadline::Deadline;
use super::replay::{PipelineSlot, ReplayHandle};
use crate::balance::{Flight, Lease, hash_key};
use crate::metrics::Metrics;
use crate::openai::{Api, ChatRequest, Format, Rejection, UsageReader};
use crate::policy::{AnswerGuard, Balance, HashKey, PoolId, PoolSpec, Retry, Route};
use crate::record::{Record, bounded, millis};
use crate::route::{Extras, Plan, Target, body_for};
use crate::snapshot::Snapshot;
use crate::vitals::InFlight;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long a client is asked to wait when nothing can serve it.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One request and its answer, from header to last byte.
pub struct Exchange {
    /// What was live when the request came; it stays so for this request.
    pub(super) live: Arc<Snapshot>,
    pub(super) opened: Instant,
    pub(super) in_flight: InFlight,
    pub(super) record: Record,
    pub(super) course: Option<Course>,
    pub(super) deadline: Arc<Deadline>,
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
    pub(super) answer: Answer,
}

/// The way a planned request takes: which upstream now, and which were tried.
pub(super) struct Course {
    pub(super) api: Api,
    pub(super) request: ChatRequest,
    pub(super) plan: Plan,
    target: usize,
    lease: Option<Lease>,
    tried: Vec<SocketAddr>,
    reconnected: bool,
    /// The model's count of this request, where its pace is measured, and since when it has it.
    flight: Option<(Flight, Instant)>,
    /// What goes upstream: the client's bytes, but for the model's name where the upstream has another.
    pub(super) body: Bytes,
}

/// What is known of the answer.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) usage: Option<UsageReader>,
    pub(super) bytes: usize,
    pub(super) first_byte: Option<Duration>,
    /// Why there is no answer of an upstream, or no whole one.
    pub(super) rejection: Option<Rejection>,
    pub(super) client_gone: bool,
    pub(super) is_stream: bool,
}

/// What spoke against an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryCause {
    /// No connection came about.
    Connect,
    /// The connection broke before the answer's first byte.
    Reset,
    /// The upstream answered with this status.
    Status(u16),
}

impl RetryCause {
    fn is_worth_it(self, retry: &Retry) -> bool {
        match self {
            RetryCause::Connect => retry.on_connect,
            RetryCause::Reset => retry.on_reset,
            RetryCause::Status(status) => retry.on_status.contains(&status),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            RetryCause::Connect => "connect",
            RetryCause::Reset => "reset",
            RetryCause::Status(429) => "429",
            RetryCause::Status(502) => "502",
            RetryCause::Status(503) => "503",
            RetryCause::Status(504) => "504",
            RetryCause::Status(_) => "status",
        }
    }
}

impl Exchange {
    pub(super) fn open(live: Arc<Snapshot>, in_flight: InFlight) -> Self {
        let opened = Instant::now();
        Self {
            live,
            opened,
            in_flight,
            record: Record::default(),
            course: None,
            deadline: Arc::new(Deadline::new(opened)),
            replay: None,
            pipeline: None,
            pending_store: None,
            completed_store: None,
            verification: None,
            outcome: None,
            debug: false,
            answer: Answer::default(),
        }
    }

    /// Takes the plan and a first endpoint for it.
    pub(super) fn set_out(
        &mut self,
        api: Api,
        request: ChatRequest,
        plan: Plan,
        (headers, now): (&HeaderMap, Instant),
    ) -> Result<(), Rejection> {
        let mut course = Course {
            api,
            request,
            plan,
            target: 0,
            lease: None,
            tried: Vec::new(),
            reconnected: false,
            flight: None,
            body: Bytes::new(),
        };
        let found = course.candidate(&self.live, headers, 0, now);
        self.live.budget.request(self.opened);
        let Some((target, lease)) = found else {
            let model = self.live.policy[course.target().model].name.clone();
            return Err(Rejection::NoHealthyEndpoint { model, retry_after: RETRY_AFTER });
        };
        course.turn_to(&self.live, target, lease);
        let wanted = course.plan.extras.as_ref().and_then(|extras| extras.timeout);
        self.deadline.limit(wanted.unwrap_or(course.spec(&self.live).timeouts.total));
        let watches = |extras: &Extras| extras.answer.is_some() || !extras.unmask.is_empty();
        if self.pending_store.is_some() || course.plan.extras.as_deref().is_some_and(watches) {
            self.pipeline = Some(PipelineSlot::default());
        }
        self.course = Some(course);
        Ok(())
    }

    /// Puts what the plan wants between the answer and the client; says whether the answer's length may change.
    pub(super) fn start_answer(&mut self, format: Format, status: StatusCode) -> bool {
        let (Some(slot), Some(course)) = (&self.pipeline, &self.course) else { return false };
        let readable = matches!(format, Format::Json | Format::EventStream);
        if !readable || !status.is_success() {
            self.pending_store = None;
            if status.is_success() {
                // Whatever it is, nothing here can read it.
                self.record.chosen.beside().unjudged.push(("answer", "unsupported"));
            }
            return false;
        }
        let api = course.api;
        if status != StatusCode::OK {
            self.pending_store = None;
        }
        let extras = course.plan.extras.as_deref();
        let watches = |extras: &&Extras| {
            extras.answer.as_ref().is_some_and(AnswerGuard::watches) || !extras.unmask.is_empty()
        };
        let guard_settings = extras.filter(watches);
        let guard_settings = guard_settings.map(|extras| GuardSettings {
            guard: extras.answer.clone().unwrap_or_default(),
            unmask: extras.unmask.clone(),
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
            self.record.chosen.beside().unjudged.push(("answer", reason.as_str()));
        }
        if let Some(did) = pipeline.did() {
            self.record.chosen.beside().answer_guard = Some(did);
        }
        (self.outcome, self.verification) = pipeline.judged();
        if let Some(outcome) = &self.outcome {
            outcome.note(self.record.chosen.beside());
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

    /// Notes what the answer cost, and how quick its model was.
    fn settle_up(&mut self, whole: bool) {
        let Some(course) = &mut self.course else { return };
        if let Some((flight, since)) = course.flight.take() {
            let (now, answered) = (Instant::now(), &self.record.answered);
            let sent = since.saturating_duration_since(self.opened);
            let ttft = self.answer.first_byte.filter(|_| self.answer.is_stream);
            let ttft = ttft.map(|ttft| ttft.saturating_sub(sent));
            if whole && (200..300).contains(&answered.status) {
                let tokens = answered.completion_tokens.unwrap_or_default();
                flight.pace().observe(now, ttft, tokens, now.saturating_duration_since(since));
            } else if !self.answer.client_gone && (answered.status == 0 || answered.status >= 500) {
                flight.pace().failed(now);
            }
        }
        let model = &self.live.policy[course.target().model];
        let answered = &self.record.answered;
        let Some(price) = &model.price else { return };
        let (Some(prompt), Some(completion)) = (answered.prompt_tokens, answered.completion_tokens) else {
            return;
        };
        let cost = price.cost(prompt, answered.cached_tokens.unwrap_or_default(), completion);
        let beside = self.record.chosen.beside();
        beside.cost = Some(cost);
        beside.currency = Some(price.currency.clone());
    }

    /// The pool, its id and the endpoint of the current attempt.
    pub(super) fn attempt(&mut self) -> Option<(PoolId, SocketAddr)> {
        let course = self.course.as_ref()?;
        let address = course.lease.as_ref()?.endpoint().addr();
        let chosen = &mut self.record.chosen;
        chosen.tries += 1;
        if course.target > 0 {
            chosen.model = Some(self.live.policy[course.target().model].name.clone());
        }
        chosen.pool = Some(course.spec(&self.live).name.clone());
        chosen.endpoint = Some(address);
        Some((course.route(&self.live).pool, address))
    }

    /// Moves on to another endpoint, if the policy, the budget, the time and the pools allow it.
    pub(super) fn retry(&mut self, cause: RetryCause, headers: &HeaderMap, metrics: &Metrics) -> bool {
        let now = Instant::now();
        let retry = &self.live.policy.retry;
        let allowed = cause.is_worth_it(retry) && self.record.chosen.tries < retry.attempts;
        let Some(course) = self.course.as_mut().filter(|_| allowed && !self.deadline.is_over(now)) else {
            return false;
        };
        course.tried.extend(course.lease.as_ref().map(|lease| lease.endpoint().addr()));
        // The last try goes to the next fall-back pool, if there is one, rather than to the pool that failed.
        let last_try = self.record.chosen.tries + 1 == retry.attempts;
        let elsewhere =
            last_try.then(|| course.candidate(&self.live, headers, course.target + 1, now)).flatten();
        let found = elsewhere.or_else(|| course.candidate(&self.live, headers, course.target, now));
        let Some((target, lease)) = found.filter(|_| self.live.budget.withdraw(now)) else { return false };
        metrics.retried(&course.spec(&self.live).name, cause.as_str());
        course.turn_to(&self.live, target, lease);
        true
    }

    /// Takes the same endpoint once more over a new connection, which counts as the same try; only once.
    pub(super) fn reconnect(&mut self) -> bool {
        let again =
            self.course.as_mut().is_some_and(|course| !std::mem::replace(&mut course.reconnected, true));
        self.record.chosen.tries -= u32::from(again);
        again
    }

    /// Tells whether the current attempt must not take a kept connection.
    pub(super) fn reconnects(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.reconnected)
    }

    /// Tells the endpoint's health that it failed.
    pub(super) fn failed(&self, metrics: &Metrics) {
        let Some((course, lease)) = self.course.as_ref().zip(self.lease()) else { return };
        if let Some(ejected_for) = lease.failed(Instant::now()) {
            let pool = &course.spec(&self.live).name;
            metrics.ejected(pool);
            tracing::warn!(%pool, endpoint = %lease.endpoint().addr(), ?ejected_for, "endpoint ejected after failures");
        }
    }

    /// Awaits the answer's first byte.
    pub(super) fn await_first_byte(&self) {
        if let Some(course) = &self.course {
            self.deadline.arm(Instant::now(), course.spec(&self.live).timeouts.first_byte);
        }
    }

    /// Notes a chunk of the answer and awaits the next.
    pub(super) fn received(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            // The end, which awaits nothing.
            return;
        }
        let now = Instant::now();
        if let Some(course) = &self.course {
            self.deadline.arm(now, course.spec(&self.live).timeouts.idle);
        }
        self.answer.bytes += chunk.len();
        self.answer.first_byte.get_or_insert_with(|| now.saturating_duration_since(self.opened));
        if let Some(usage) = &mut self.answer.usage {
            usage.feed(chunk);
        }
    }

    /// Notes what the client called its model.
    pub(super) fn note_request(&mut self, request: &ChatRequest) {
        self.record.asked.requested_model = Some(bounded(request.model()));
        self.record.asked.stream = request.stream();
    }

    /// Gives the endpoint back and completes the record.
    pub(super) fn close(&mut self) {
        let whole = self.answer.rejection.is_none() && !self.answer.client_gone;
        if let Some(lease) = self.course.as_mut().and_then(|course| course.lease.take())
            && whole
        {
            // Only the last byte proves an endpoint well; an answer that it had failed before is not counted twice.
            lease.succeeded();
        }
        let answered = &mut self.record.answered;
        answered.response_bytes = self.answer.bytes;
        answered.ttft_ms = self.answer.first_byte.map(millis);
        answered.duration_ms = millis(self.opened.elapsed());
        if let Some(usage) = self.answer.usage.as_mut().and_then(UsageReader::finish) {
            answered.prompt_tokens = Some(usage.prompt_tokens);
            answered.completion_tokens = Some(usage.completion_tokens);
            answered.cached_tokens = Some(usage.cached_tokens);
        }
        self.settle_up(whole);
        self.finish_answer(whole);
        let answered = &mut self.record.answered;
        answered.error = match &self.answer.rejection {
            _ if self.answer.client_gone => Some("client_closed"),
            Some(rejection) => Some(rejection.reason()),
            // A refusal that is told as an answer has noted it already.
            None => answered.error,
        };
        if answered.status == 0 {
            // As nginx has it: the client closed the connection before there was an answer.
            answered.status = 499;
        }
    }

    fn lease(&self) -> Option<&Lease> {
        self.course.as_ref()?.lease.as_ref()
    }
}

impl Course {
    /// The model of the current attempt, behind one of its pools.
    pub(super) fn target(&self) -> &Target {
        &self.plan.targets[self.target]
    }

    /// The upstream of the current attempt.
    pub(super) fn route<'a>(&self, live: &'a Snapshot) -> &'a Route {
        self.target().route(&live.policy)
    }

    /// What the policy says of the current attempt's pool.
    pub(super) fn spec<'a>(&self, live: &'a Snapshot) -> &'a PoolSpec {
        live.pool_spec(self.route(live).pool)
    }

    /// The endpoint of the current attempt, as the policy writes it.
    pub(super) fn authority(&self) -> Option<&str> {
        Some(self.lease.as_ref()?.endpoint().host())
    }

    fn turn_to(&mut self, live: &Snapshot, target: usize, lease: Lease) {
        (self.target, self.lease, self.reconnected) = (target, Some(lease), false);
        self.flight = live.measures_pace.then(|| (live.pace(self.target().model).enter(), Instant::now()));
        let changed = self.plan.extras.as_ref().and_then(|extras| extras.request.as_ref());
        self.body = body_for(&live.policy, self.target(), self.api, changed.unwrap_or(&self.request));
    }

    fn candidate(
        &self,
        live: &Snapshot,
        headers: &HeaderMap,
        from: usize,
        now: Instant,
    ) -> Option<(usize, Lease)> {
        let mut targets = self.plan.targets.iter().enumerate().skip(from);
        targets.find_map(|(at, target)| {
            let route = target.route(&live.policy);
            let key = self.hash_key(live.pool_spec(route.pool), headers);
            Some((at, live.pool(route.pool).lease(key, &self.tried, now)?))
        })
    }

    fn hash_key(&self, spec: &PoolSpec, headers: &HeaderMap) -> Option<u64> {
        match &spec.balance {
            Balance::Hash(HashKey::Header(name)) => Some(hash_key(headers.get(name)?.as_bytes())),
            Balance::Hash(HashKey::Field(name)) => Some(hash_key(self.request.field(name)?.as_bytes())),
            Balance::RoundRobin | Balance::LeastRequest => None,
        }
    }
}
