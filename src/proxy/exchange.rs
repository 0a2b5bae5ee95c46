//! Owns one request and its answer: what is known of it at each phase, and which attempt comes next.
//!
//! Knows nothing of how bytes come and go; `mod.rs` tells it what happened.

use super::deadline::Deadline;
use super::replay::ReplayHandle;
use crate::balance::{Lease, hash_key};
use crate::classify::Findings;
use crate::metrics::Metrics;
use crate::openai::{ChatRequest, Rejection, UsageReader};
use crate::policy::{Balance, HashKey, PoolId, PoolSpec, Retry, Route};
use crate::record::{Record, bounded, millis};
use crate::route::Plan;
use crate::snapshot::Snapshot;
use crate::vitals::InFlight;
use bytes::Bytes;
use http::HeaderMap;
use std::net::SocketAddr;
use std::sync::Arc;
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
    pub(super) answer: Answer,
}

/// The way a planned request takes: which upstream now, and which were tried.
pub(super) struct Course {
    pub(super) request: ChatRequest,
    pub(super) plan: Plan,
    route: usize,
    lease: Option<Lease>,
    tried: Vec<SocketAddr>,
    reconnected: bool,
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
            answer: Answer::default(),
        }
    }

    /// Takes the plan and a first endpoint for it.
    pub(super) fn set_out(
        &mut self,
        request: ChatRequest,
        plan: Plan,
        headers: &HeaderMap,
    ) -> Result<(), Rejection> {
        self.note_plan(&plan);
        let mut course = Course {
            request,
            plan,
            route: 0,
            lease: None,
            tried: Vec::new(),
            reconnected: false,
            body: Bytes::new(),
        };
        let found = course.candidate(&self.live, headers, 0, Instant::now());
        let model = course.plan.model(&self.live).name.clone();
        self.live.budget.request(self.opened);
        let Some((route, lease)) = found else {
            return Err(Rejection::NoHealthyEndpoint { model, retry_after: RETRY_AFTER });
        };
        course.turn_to(&self.live, route, lease);
        self.deadline.limit(course.spec(&self.live).timeouts.total);
        self.course = Some(course);
        Ok(())
    }

    fn note_plan(&mut self, plan: &Plan) {
        let chosen = &mut self.record.chosen;
        chosen.model = Some(plan.model(&self.live).name.clone());
        chosen.decision.clone_from(&plan.decision);
        chosen.reason = Some(plan.reason.as_str());
        if let Some(label) = &plan.label {
            chosen.category = Some(label.name.to_string());
            chosen.confidence = Some(label.confidence);
        }
    }

    /// Notes what the classifier found and what that cost.
    pub(super) fn note_findings(&mut self, findings: &Findings, took: Duration) {
        let label = findings.domain.as_ref().and_then(|found| found.as_ref().ok());
        let cost = findings.cost;
        let chosen = &mut self.record.chosen;
        chosen.coverage = label.map(|label| label.coverage);
        chosen.classify_ms = Some(millis(took));
        chosen.classify_queued_ms = Some(millis(cost.queued));
        chosen.classify_tokens = Some(cost.tokens);
        chosen.classify_windows = Some(cost.windows);
        chosen.classify_cached = Some(cost.cached);
    }

    /// The pool, its id and the endpoint of the current attempt.
    pub(super) fn attempt(&mut self) -> Option<(PoolId, SocketAddr)> {
        let course = self.course.as_ref()?;
        let address = course.lease.as_ref()?.endpoint().addr();
        let chosen = &mut self.record.chosen;
        chosen.tries += 1;
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
            last_try.then(|| course.candidate(&self.live, headers, course.route + 1, now)).flatten();
        let found = elsewhere.or_else(|| course.candidate(&self.live, headers, course.route, now));
        let Some((route, lease)) = found.filter(|_| self.live.budget.withdraw(now)) else { return false };
        metrics.retried(&course.spec(&self.live).name, cause.as_str());
        course.turn_to(&self.live, route, lease);
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
        let now = Instant::now();
        if let Some(course) = &self.course {
            self.deadline.arm(now, course.spec(&self.live).timeouts.idle);
        }
        if chunk.is_empty() {
            return;
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
        answered.error = match &self.answer.rejection {
            _ if self.answer.client_gone => Some("client_closed"),
            rejection => rejection.as_ref().map(Rejection::reason),
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
    /// The upstream of the current attempt.
    pub(super) fn route<'a>(&self, live: &'a Snapshot) -> &'a Route {
        &self.plan.routes(live)[self.route]
    }

    /// What the policy says of the current attempt's pool.
    pub(super) fn spec<'a>(&self, live: &'a Snapshot) -> &'a PoolSpec {
        live.pool_spec(self.route(live).pool)
    }

    /// The endpoint of the current attempt, as the policy writes it.
    pub(super) fn authority(&self) -> Option<&str> {
        Some(self.lease.as_ref()?.endpoint().host())
    }

    fn turn_to(&mut self, live: &Snapshot, route: usize, lease: Lease) {
        (self.route, self.lease, self.reconnected) = (route, Some(lease), false);
        self.body = self.request.with_model(&self.route(live).upstream_model);
    }

    fn candidate(
        &self,
        live: &Snapshot,
        headers: &HeaderMap,
        from: usize,
        now: Instant,
    ) -> Option<(usize, Lease)> {
        let mut routes = self.plan.routes(live).iter().enumerate().skip(from);
        routes.find_map(|(at, route)| {
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
