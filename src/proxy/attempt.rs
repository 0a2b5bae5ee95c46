//! Owns the attempts of one request: the targets of its plan, the endpoint that has it now, the endpoints that were
//! tried, and what follows a failure.
//!
//! Knows nothing of how bytes travel: it is told what failed and says what comes next.

mod body;
mod endpoint;
mod external;
mod hedged;
mod waits;

pub(super) use external::{ExternalPick, PickerContext};

use super::attempt_failure::{AttemptFailure, Blame, NextStep};
use super::concurrent_prefill::ConcurrentPrefill;
use super::deadline::Deadline;
use super::endpoint_reports::{no_endpoint, report_ejection, report_failure, report_refusal};
use super::hedge::{HedgePlan, Racer};
use super::planned_request::PlannedRequest;
use crate::balance::{ConnectionMark, InFlightGuard, Lease, Refusal, RetryBudget};
use crate::openai::{Rejection, TokenUsage};
use crate::policy::PoolSpec;
use crate::route::{LeaseInput, PlanTarget, lease_endpoint, upstream_body};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The attempts of one request that is forwarded. There is always a current one.
pub(super) struct Attempts {
    pub(super) request: PlannedRequest,
    pub(super) deadline: Arc<Deadline>,
    /// The index of the current target in the plan.
    target: usize,
    /// `None` once the request is over.
    lease: Option<Lease>,
    /// Endpoints that failed; none of them is leased again.
    tried: Vec<SocketAddr>,
    /// Endpoints that have not computed the prompt, the same way.
    failed_prefills: Vec<SocketAddr>,
    /// Attempts so far, the current one included; a reconnect is no attempt of its own.
    count: u32,
    connection: AttemptConnection,
    /// Attempts that were refused, while another endpoint is asked whether the request or the endpoint is at fault.
    compared: Vec<ComparedAttempt>,
    /// Counts the request as in flight on its model, where latencies are measured.
    in_flight: Option<ModelInFlight>,
    /// What the pool's external picker said, where it has one.
    external: Option<Box<ExternalPick>>,
    /// The body of the current attempt: the client's bytes, changed as the plan and the target's name want it.
    body: Bytes,
}

/// What the current attempt is made over.
#[derive(Default)]
struct AttemptConnection {
    /// Whether it is made a second time, over a new connection.
    is_reconnect: bool,
    /// Where the endpoint stood when it began.
    mark: ConnectionMark,
    /// What may ask a second endpoint beside it.
    hedge: Option<Arc<HedgePlan>>,
    /// Which of two endpoints has answered, where two were asked.
    answered_by: Option<Racer>,
    /// Who computes the prompt at the same time.
    prefill: Option<ConcurrentPrefill>,
}

/// An attempt whose failure may be the endpoint's or the request's own.
struct ComparedAttempt {
    target: usize,
    lease: Lease,
    status: StatusCode,
}

/// A request counted as in flight in its model's latency statistics.
struct ModelInFlight {
    guard: InFlightGuard,
    since: Instant,
    /// What comes before its first token, in tokens to compute, where that is known.
    work: Option<f64>,
}

/// Where and when a request begins.
#[derive(Clone, Copy)]
pub(super) struct FirstAttempt {
    /// The place of the target that it goes to if it can.
    pub(super) place: usize,
    /// When it came.
    pub(super) opened: Instant,
}

/// What an endpoint is picked by, beside the plan.
#[derive(Clone, Copy)]
pub(super) struct PickContext<'a> {
    pub(super) live: &'a Snapshot,
    /// The client's request headers, for pools that hash one.
    pub(super) headers: &'a HeaderMap,
    pub(super) now: Instant,
}

/// What bounds the waits of one attempt.
#[derive(Clone, Copy)]
pub(super) struct AttemptLimits {
    /// What is left of the exchange's time.
    pub(super) rest: Duration,
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    /// The request body's length.
    pub(super) body_len: usize,
}

/// How the last attempt ended.
#[derive(Clone, Copy)]
pub(super) struct AttemptEnd {
    pub(super) now: Instant,
    /// When the answer's first token came; `None` where it came whole.
    pub(super) first_token: Option<Instant>,
    /// 0 where there was no answer.
    pub(super) status: u16,
    /// What the upstream counted, if it did.
    pub(super) usage: Option<TokenUsage>,
    /// The client got the whole answer.
    pub(super) is_whole: bool,
    pub(super) client_gone: bool,
}

impl Attempts {
    /// Leases a first endpoint for a request.
    pub(super) fn start(
        request: PlannedRequest,
        pick: PickContext<'_>,
        first: FirstAttempt,
    ) -> Result<Self, Rejection> {
        let FirstAttempt { place, opened } = first;
        let mut attempts = Self {
            request,
            deadline: Arc::new(Deadline::new(opened)),
            target: 0,
            lease: None,
            tried: Vec::new(),
            failed_prefills: Vec::new(),
            count: 0,
            connection: AttemptConnection::default(),
            compared: Vec::new(),
            in_flight: None,
            external: None,
            body: Bytes::new(),
        };
        let live = pick.live;
        if let Some(budget) =
            live.upstreams.reissue_budget.as_ref().filter(|_| attempts.request.may_be_reissued())
        {
            budget.request(opened);
        }
        let found = attempts.candidate(pick, place, true);
        let Some((target, lease)) = found.or_else(|| attempts.candidate(pick, 0, true)) else {
            return Err(no_endpoint(live, &attempts.request.plan.targets, pick.now));
        };
        attempts.switch_to(live, target, lease)?;
        attempts.retry_budget(live).request(opened);
        let of_decision = attempts.request.plan.effects.as_ref().and_then(|effects| effects.timeout);
        let of_route = attempts.target().via.as_ref().and_then(|via| via.rule.timeouts.request);
        let timeout = of_decision.into_iter().chain(of_route).min();
        attempts.deadline.limit(timeout.unwrap_or(attempts.spec(live).timeouts.total));
        Ok(attempts)
    }

    /// Decides what follows a failure of the current attempt, and prepares it.
    pub(super) fn next(
        &mut self,
        failure: AttemptFailure,
        pick: PickContext<'_>,
        metrics: &Metrics,
    ) -> NextStep {
        self.settle_hedge(pick.live, pick.now, metrics);
        // That says nothing about the endpoint's health.
        let is_in_time = !self.deadline.is_over(pick.now);
        let is_reconnected = &mut self.connection.is_reconnect;
        if failure.is_of_connection() && is_in_time && !std::mem::replace(is_reconnected, true) {
            return NextStep::Reconnect;
        }
        if let Some(lease) = &self.lease {
            let spec = self.spec(pick.live);
            if failure.blame() == Blame::Endpoint {
                report_failure(lease, spec, pick.now, metrics);
            }
            if let Some(refusal) = failure.refusal() {
                report_refusal(lease, spec, refusal, pick.now);
            }
        }
        if self.retry(failure, pick, metrics) { NextStep::Retry } else { failure.give_up() }
    }

    /// Leases another endpoint, if the policy, the time, the pools and the retry budget allow it.
    fn retry(&mut self, failure: AttemptFailure, pick: PickContext<'_>, metrics: &Metrics) -> bool {
        let PickContext { live, now, .. } = pick;
        let retry = &live.policy.retry;
        // What one endpoint alone has no other can give.
        let is_bound = self.request.api.is_kept();
        let of_route = self.target().via.as_ref().and_then(|via| via.rule.retry.as_ref());
        let attempts = of_route.map_or(retry.attempts, |route| route.attempts);
        let is_listed = of_route.is_some_and(|route| failure.is_listed(&route.codes));
        let is_retried = is_listed || failure.is_retried(retry);
        if is_bound || !is_retried || self.count >= attempts || self.deadline.is_over(now) {
            return false;
        }
        if failure.is_compared() && !is_listed && !self.may_compare(failure, live, now) {
            return false;
        }
        if failure == AttemptFailure::Prefill {
            // What it waited for was not its own.
            self.failed_prefills.extend(self.connection.prefill.as_ref().map(|prefill| prefill.endpoint));
        } else {
            self.tried.extend(self.endpoint());
        }
        // The last attempt goes to the next fall-back pool, if there is one, rather than to the pool that failed.
        // Whose fault a refusal is only the same pool can tell.
        let is_last = self.count + 1 == attempts && !failure.is_compared();
        let any = failure.allows_last_resort();
        let fallback = is_last.then(|| self.candidate(pick, self.target + 1, any)).flatten();
        let mut found = fallback.or_else(|| self.candidate(pick, self.target, any));
        if found.is_none() && failure == AttemptFailure::Slow {
            // It could have answered yet, and may.
            self.tried.pop();
            found = self.candidate(pick, self.target, any);
        }
        let Some((target, lease)) = found else { return false };
        // The budget of the pool that fails: others keep theirs. An endpoint that is known to refuse carries no load.
        let adds_load = !failure.is_paid_for() && !self.is_known_to_refuse(failure, now);
        if adds_load && !self.retry_budget(live).withdraw(now) {
            return false;
        }
        let (failed, last) = (self.target, self.lease.take());
        if self.switch_to(live, target, lease).is_err() {
            // What that pool speaks has nothing for a part of the request.
            self.lease = last;
            return false;
        }
        metrics.retried(&spec_of(live, &self.request.plan.targets[failed]).name, failure.label());
        if let (AttemptFailure::Status { status, .. }, true) = (failure, failure.is_compared()) {
            self.compared.extend(last.map(|lease| ComparedAttempt { target: failed, lease, status }));
        }
        true
    }

    /// The retries that the requests of the current attempt's pool may spend together.
    fn retry_budget<'a>(&self, live: &'a Snapshot) -> &'a RetryBudget {
        &live.upstreams.retry_budgets[self.target().pool(&live.policy).0]
    }

    /// Whether the endpoint refuses what others have answered meanwhile.
    fn is_known_to_refuse(&self, failure: AttemptFailure, now: Instant) -> bool {
        let is_passed_over = |lease: &Lease| lease.is_passed_over(now);
        failure.is_compared() && self.lease.as_ref().is_some_and(is_passed_over)
    }

    /// Whether another endpoint may be asked what this one refused: seldom enough that a client which provokes refusals
    /// adds little load.
    fn may_compare(&self, failure: AttemptFailure, live: &Snapshot, now: Instant) -> bool {
        let AttemptFailure::Status { status, .. } = failure else { return false };
        let is_listed = live.policy.retry.covers_status(status.as_u16());
        let is_about_client = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && self.spec(live).forward_authorization;
        let may = |lease: &Lease| lease.is_passed_over(now) || lease.may_compare(now);
        is_listed || (!is_about_client && self.lease.as_ref().is_some_and(may))
    }

    /// Notes that the endpoint answers with this status. Where that is no error, endpoints of the same pool that refused
    /// the same request are at fault.
    pub(super) fn on_answer(
        &mut self,
        status: StatusCode,
        live: &Snapshot,
        now: impl FnOnce() -> Instant,
        metrics: &Metrics,
    ) {
        if let Some(lease) = &self.lease {
            lease.endpoint().note_answer();
        }
        if self.compared.is_empty() {
            return;
        }
        let now = now();
        if status.is_client_error() || status.is_server_error() {
            let alike = self.compared.iter().filter(|compared| compared.status == status);
            alike.for_each(|compared| compared.lease.compared_in_vain(now));
            return;
        }
        // What such a request was refused for is what it refers to, not the model.
        let lacks_stored =
            |status| status == StatusCode::NOT_FOUND && self.request.request.refers_to_stored();
        for compared in std::mem::take(&mut self.compared) {
            if compared.target != self.target || lacks_stored(compared.status) {
                continue;
            }
            if compared.status.is_server_error() {
                report_failure(&compared.lease, self.spec(live), now, metrics);
            } else {
                report_refusal(&compared.lease, self.spec(live), Refusal::Unable, now);
            }
        }
    }

    /// Gives up the pooled connections of the current endpoint after a silence, unless it has answered others meanwhile.
    pub(super) fn retire_connections(&self, failure: AttemptFailure) {
        let Some(lease) = &self.lease else { return };
        let is_silent = match failure {
            AttemptFailure::Stalled { .. } => true,
            AttemptFailure::Late(_) => lease.endpoint().mark().answers == self.connection.mark.answers,
            _ => false,
        };
        if is_silent {
            lease.endpoint().retire_connections(self.connection.mark);
        }
    }

    /// The first target, from the `from`th, that has an endpoint available, with a lease on it; `last_resort` says
    /// whether endpoints that had better not be asked are, where there are no others.
    fn candidate(&self, pick: PickContext<'_>, from: usize, last_resort: bool) -> Option<(usize, Lease)> {
        let input = LeaseInput {
            headers: pick.headers,
            request: &self.request.request,
            upstream_request: self.request.upstream_request(),
            tried: &self.tried,
            last_resort,
            now: pick.now,
        };
        let leased = lease_endpoint(pick.live, self.request.plan.targets.get(from..)?, input)?;
        Some((from + leased.place, leased.lease))
    }

    /// Turns to a target; fails, and stays where it is, if that has nothing for a part of the request.
    fn switch_to(&mut self, live: &Snapshot, target: usize, lease: Lease) -> Result<(), Rejection> {
        let model = self.request.plan.targets[target].model;
        self.request.plan.use_effects_of(model);
        let (request, answer) = (self.request.upstream_request(), self.request.answer_use());
        let body = upstream_body(live, &self.request.plan.targets[target], request, answer);
        self.body = body.inspect_err(|_untranslatable| {
            let model = self.request.plan.targets[self.target].model;
            self.request.plan.use_effects_of(model);
        })?;
        let mark = lease.endpoint().mark();
        self.connection = AttemptConnection { mark, ..AttemptConnection::default() };
        (self.target, self.lease) = (target, Some(lease));
        self.count += 1;
        let work = self.lease.as_ref().and_then(Lease::expected_work);
        self.in_flight = live.models.measures_latency.then(|| ModelInFlight {
            guard: live.models.latency(model).enter(),
            since: Instant::now(),
            work,
        });
        Ok(())
    }

    /// Notes that a token of the answer has come, the first or another.
    pub(super) fn token(&self, live: &Snapshot, now: Instant, metrics: &Metrics) {
        if let Some(lease) = &self.lease
            && let Some(ejected_for) = lease.token(now)
        {
            report_ejection(lease, self.spec(live), "latency", ejected_for, metrics);
        }
    }

    /// Gives the endpoint back and reports how the last attempt ended.
    pub(super) fn finish(&mut self, end: AttemptEnd) {
        self.compared.clear();
        self.finish_external(end.is_whole);
        if let Some(prefill) = self.connection.prefill.take().filter(|_| end.is_whole) {
            prefill.release();
        }
        let is_answer = !matches!(end.status, 401 | 403 | 404 | 429 | 500..);
        if let Some(lease) = self.lease.take()
            && end.is_whole
            && is_answer
        {
            // Only the last byte proves an endpoint well; a lease that has failed ignores this.
            lease.succeeded();
            if let Some(usage) = end.usage {
                lease.cached(usage.cached_tokens, usage.prompt_tokens);
            }
        }
        let Some(ModelInFlight { guard, since, work }) = self.in_flight.take() else { return };
        if end.is_whole && (200..300).contains(&end.status) {
            let ttft = end.first_token.map(|at| at.saturating_duration_since(since));
            let duration = end.now.saturating_duration_since(since);
            let completion_tokens = end.usage.map_or(0, |usage| usage.completion_tokens);
            guard.stats().observe(end.now, ttft, completion_tokens, duration);
            if let (Some(work), Some(ttft)) = (work, ttft) {
                guard.stats().observe_work(end.now, work, ttft);
            }
        } else if !end.client_gone && (end.status == 0 || end.status >= 500) {
            guard.stats().failed(end.now);
        }
    }

    /// The model of the current attempt, behind one of its pools.
    pub(super) fn target(&self) -> &PlanTarget {
        &self.request.plan.targets[self.target]
    }

    /// Whether the current target is not the first of the plan.
    pub(super) fn is_fallback(&self) -> bool {
        self.target > 0
    }

    /// What the policy says of the current attempt's pool.
    pub(super) fn spec<'a>(&self, live: &'a Snapshot) -> &'a PoolSpec {
        spec_of(live, self.target())
    }

    pub(super) fn mark(&self) -> ConnectionMark {
        self.connection.mark
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether an endpoint was left since its first byte took long.
    pub(super) fn is_reissued(&self) -> bool {
        self.deadline.was_slow()
    }

    pub(super) fn is_reconnect(&self) -> bool {
        self.connection.is_reconnect
    }
}

/// What the policy says of a target's pool.
fn spec_of<'a>(live: &'a Snapshot, target: &PlanTarget) -> &'a PoolSpec {
    live.pool_spec(target.pool(&live.policy))
}
