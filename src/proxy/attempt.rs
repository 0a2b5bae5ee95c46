//! Owns the attempts of one request: the targets of its plan, the endpoint that has it now, the endpoints that were
//! tried, and what follows a failure.
//!
//! Knows nothing of how bytes travel: it is told what failed and says what comes next.

use super::deadline::Deadline;
use super::failure::RETRY_AFTER;
use crate::balance::{InFlightGuard, Lease};
use crate::openai::{Api, ChatRequest, Rejection};
use crate::policy::{PoolSpec, Retry, RetryCause};
use crate::route::{LeaseInput, Plan, PlanTarget, body_for, lease_endpoint};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

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
    /// Attempts so far, the current one included; a reconnect is no attempt of its own.
    count: u32,
    /// Whether the current attempt is made a second time, over a new connection.
    is_reconnect: bool,
    /// Counts the request as in flight on its model, where latencies are measured.
    in_flight: Option<ModelInFlight>,
    /// The body of the current attempt: the client's bytes, changed as the plan and the target's name want it.
    body: Bytes,
}

/// A request with its plan.
pub(super) struct PlannedRequest {
    pub(super) api: Api,
    /// As the client sent it.
    pub(super) request: ChatRequest,
    pub(super) plan: Plan,
}

impl PlannedRequest {
    /// The request as plugins and guards changed it.
    pub(super) fn upstream_request(&self) -> &ChatRequest {
        let changed = self.plan.effects.as_ref().and_then(|effects| effects.request.as_ref());
        changed.unwrap_or(&self.request)
    }
}

/// A request counted as in flight in its model's latency statistics.
struct ModelInFlight {
    guard: InFlightGuard,
    since: Instant,
}

/// What an endpoint is picked by, beside the plan.
#[derive(Clone, Copy)]
pub(super) struct PickContext<'a> {
    pub(super) live: &'a Snapshot,
    /// The client's request headers, for pools that hash one.
    pub(super) headers: &'a HeaderMap,
    pub(super) now: Instant,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptFailure {
    /// No connection was made.
    Connect { timed_out: bool },
    /// The upstream broke the connection.
    Reset {
        /// The connection had served a request before.
        reused: bool,
        /// The client has the header of the answer already.
        answer_begun: bool,
    },
    /// The upstream answered with an error status; its body was not read.
    Status(StatusCode),
    /// The first byte, the next one or the end did not come in time.
    Deadline,
}

/// How the last attempt ended.
#[derive(Clone, Copy)]
pub(super) struct AttemptEnd {
    pub(super) now: Instant,
    /// When the answer's first byte came; `None` where it came whole.
    pub(super) first_byte: Option<Instant>,
    /// 0 where there was no answer.
    pub(super) status: u16,
    /// 0 where the upstream did not count them.
    pub(super) completion_tokens: u64,
    /// The client got the whole answer.
    pub(super) is_whole: bool,
    pub(super) client_gone: bool,
}

/// What follows a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Another endpoint is leased: try that.
    Retry,
    /// Try the same endpoint over a new connection.
    Reconnect,
    /// The client gets the upstream's own error answer.
    ForwardAnswer,
    /// The client gets this.
    GiveUp(Rejection),
}

impl AttemptFailure {
    /// Whether the endpoint's health counts it. A client error is not the endpoint's.
    fn is_endpoints_fault(self) -> bool {
        !matches!(self, Self::Status(status) if !status.is_server_error())
    }

    fn is_retried(self, retry: &Retry) -> bool {
        match self {
            Self::Connect { .. } => retry.covers(RetryCause::Connect),
            Self::Reset { answer_begun, .. } => !answer_begun && retry.covers(RetryCause::Reset),
            Self::Status(status) => retry.covers_status(status.as_u16()),
            // The time was the whole request's, or as long as another endpoint would be given.
            Self::Deadline => false,
        }
    }

    /// The cause as the metric `retries_total` labels it.
    fn label(self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Reset { .. } => "reset",
            Self::Deadline => "deadline",
            Self::Status(status) => match status.as_u16() {
                429 => "429",
                502 => "502",
                503 => "503",
                504 => "504",
                _ => "status",
            },
        }
    }

    fn give_up(self) -> NextStep {
        NextStep::GiveUp(match self {
            Self::Status(_) => return NextStep::ForwardAnswer,
            Self::Connect { timed_out: false } => Rejection::UpstreamConnect,
            Self::Connect { timed_out: true } | Self::Deadline => Rejection::UpstreamTimeout,
            Self::Reset { .. } => Rejection::UpstreamReset,
        })
    }
}

impl Attempts {
    /// Leases a first endpoint for a request that came at `opened`.
    pub(super) fn start(
        request: PlannedRequest,
        pick: PickContext<'_>,
        opened: Instant,
    ) -> Result<Self, Rejection> {
        let mut attempts = Self {
            request,
            deadline: Arc::new(Deadline::new(opened)),
            target: 0,
            lease: None,
            tried: Vec::new(),
            count: 0,
            is_reconnect: false,
            in_flight: None,
            body: Bytes::new(),
        };
        let live = pick.live;
        live.upstreams.retry_budget.request(opened);
        let Some((target, lease)) = attempts.candidate(pick, 0) else {
            let model = live.policy[attempts.target().model].name.clone();
            return Err(Rejection::NoHealthyEndpoint { model, retry_after: RETRY_AFTER });
        };
        attempts.switch_to(live, target, lease);
        let timeout = attempts.request.plan.effects.as_ref().and_then(|effects| effects.timeout);
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
        // The upstream closed an idle connection just as it was used, which says nothing about its health.
        let is_stale = matches!(failure, AttemptFailure::Reset { reused: true, answer_begun: false });
        if is_stale && !std::mem::replace(&mut self.is_reconnect, true) {
            return NextStep::Reconnect;
        }
        if failure.is_endpoints_fault() {
            self.report_failure(pick, metrics);
        }
        if self.retry(failure, pick, metrics) { NextStep::Retry } else { failure.give_up() }
    }

    /// Leases another endpoint, if the policy, the time, the pools and the retry budget allow it.
    fn retry(&mut self, failure: AttemptFailure, pick: PickContext<'_>, metrics: &Metrics) -> bool {
        let PickContext { live, now, .. } = pick;
        let retry = &live.policy.retry;
        if !failure.is_retried(retry) || self.count >= retry.attempts || self.deadline.is_over(now) {
            return false;
        }
        self.tried.extend(self.endpoint());
        // The last attempt goes to the next fall-back pool, if there is one, rather than to the pool that failed.
        let is_last = self.count + 1 == retry.attempts;
        let fallback = is_last.then(|| self.candidate(pick, self.target + 1)).flatten();
        let Some((target, lease)) = fallback.or_else(|| self.candidate(pick, self.target)) else {
            return false;
        };
        if !live.upstreams.retry_budget.withdraw(now) {
            return false;
        }
        metrics.retried(&self.spec(live).name, failure.label());
        self.switch_to(live, target, lease);
        true
    }

    fn report_failure(&self, pick: PickContext<'_>, metrics: &Metrics) {
        let Some(lease) = &self.lease else { return };
        if let Some(ejected_for) = lease.failed(pick.now) {
            let pool = &self.spec(pick.live).name;
            metrics.ejected(pool);
            tracing::warn!(%pool, endpoint = %lease.endpoint().addr(), ?ejected_for, "endpoint ejected after failures");
        }
    }

    /// The first target, from the `from`th, that has an endpoint available, with a lease on it.
    fn candidate(&self, pick: PickContext<'_>, from: usize) -> Option<(usize, Lease)> {
        let input = LeaseInput {
            headers: pick.headers,
            request: &self.request.request,
            upstream_request: self.request.upstream_request(),
            tried: &self.tried,
            now: pick.now,
        };
        let leased = lease_endpoint(pick.live, self.request.plan.targets.get(from..)?, input)?;
        Some((from + leased.place, leased.lease))
    }

    fn switch_to(&mut self, live: &Snapshot, target: usize, lease: Lease) {
        (self.target, self.lease, self.is_reconnect) = (target, Some(lease), false);
        self.count += 1;
        let model = self.target().model;
        self.request.plan.use_effects_of(model);
        self.in_flight = live
            .models
            .measures_latency
            .then(|| ModelInFlight { guard: live.models.latency(model).enter(), since: Instant::now() });
        let (api, request) = (self.request.api, self.request.upstream_request());
        self.body = body_for(&live.policy, self.target(), api, request);
    }

    /// Gives the endpoint back and reports how the last attempt ended.
    pub(super) fn finish(&mut self, end: AttemptEnd) {
        if let Some(lease) = self.lease.take()
            && end.is_whole
        {
            // Only the last byte proves an endpoint well; a lease that has failed ignores this.
            lease.succeeded();
        }
        let Some(ModelInFlight { guard, since }) = self.in_flight.take() else { return };
        if end.is_whole && (200..300).contains(&end.status) {
            let ttft = end.first_byte.map(|at| at.saturating_duration_since(since));
            let duration = end.now.saturating_duration_since(since);
            guard.stats().observe(end.now, ttft, end.completion_tokens, duration);
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
        live.pool_spec(self.target().route(&live.policy).pool)
    }

    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        Some(self.lease.as_ref()?.endpoint().addr())
    }

    /// The current endpoint's host and port, as the policy writes them.
    pub(super) fn authority(&self) -> Option<&str> {
        Some(self.lease.as_ref()?.endpoint().host())
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn is_reconnect(&self) -> bool {
        self.is_reconnect
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{BasisPoints, RetryBudgetSpec};

    #[test]
    fn only_what_the_policy_lists_is_retried_and_never_an_answer_that_has_begun() {
        let retry = Retry {
            attempts: 3,
            on: vec![RetryCause::Connect, RetryCause::Reset, RetryCause::Status429, RetryCause::Status503],
            budget: RetryBudgetSpec { share: BasisPoints(10_000), min_per_second: 0 },
        };
        let reset = |answer_begun| AttemptFailure::Reset { reused: false, answer_begun };
        let status = |status: u16| AttemptFailure::Status(StatusCode::from_u16(status).unwrap());
        for failure in [AttemptFailure::Connect { timed_out: true }, reset(false), status(429), status(503)] {
            assert!(failure.is_retried(&retry), "{failure:?}");
        }
        for failure in [reset(true), status(404), status(500), AttemptFailure::Deadline] {
            assert!(!failure.is_retried(&retry), "{failure:?}");
        }
    }

    #[test]
    fn a_client_error_does_not_count_against_the_endpoint_and_is_forwarded() {
        let refused = AttemptFailure::Status(StatusCode::TOO_MANY_REQUESTS);
        assert!(!refused.is_endpoints_fault());
        assert_eq!(refused.give_up(), NextStep::ForwardAnswer);
        assert!(AttemptFailure::Status(StatusCode::BAD_GATEWAY).is_endpoints_fault());
        assert_eq!(AttemptFailure::Deadline.give_up(), NextStep::GiveUp(Rejection::UpstreamTimeout));
    }
}
