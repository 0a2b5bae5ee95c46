//! Owns the attempts of a request that is of no inference API and follows a route: the backends that it may go to, the
//! endpoint that has it now, the endpoints that were tried, and what follows a failure.
//!
//! Its body and its answer pass in pieces, unread. Knows nothing of how: it is told what failed and says what comes next.

mod copy;

pub(super) use copy::PlainCopy;

use super::attempt_failure::{AttemptFailure, Blame, LateBytes, NextStep};
use super::endpoint_reports::report_failure;
use super::ext_proc::PickerAnswer;
use super::failure::RETRY_AFTER;
use crate::balance::{ConnectionMark, Endpoint, Lease, PickRequest};
use crate::openai::Rejection;
use crate::policy::{Balance, PoolSpec};
use crate::route::FollowedRule;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use http::Method;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The attempts of a request that passes unread. There is always a current one.
pub(super) struct Passthrough {
    /// Where it may go, in order; never empty.
    targets: Vec<Arc<FollowedRule>>,
    /// The index of the current one.
    target: usize,
    /// `None` once the request is over.
    lease: Option<Lease>,
    /// Endpoints that failed; none of them is leased again.
    tried: Vec<SocketAddr>,
    /// Attempts so far, the current one included; a reconnect is no attempt of its own.
    pub(super) count: u32,
    /// Whether the current attempt is made a second time, over a new connection.
    pub(super) is_reconnect: bool,
    /// Where the endpoint stood when the current attempt began.
    pub(super) mark: ConnectionMark,
    ends: AnswerEnds,
    /// Whether what was sent may be sent again without being asked to.
    is_idempotent: bool,
    /// What mirrors get of it, where its rule has any.
    pub(super) copy: Option<Box<PlainCopy>>,
    /// What the pool's external picker said, where it has one.
    pub(super) picked: Option<Box<PickerAnswer>>,
    /// How long the body is, where it was read whole for a picker.
    pub(super) length: Option<usize>,
}

/// By when the answer must be whole.
#[derive(Clone, Copy)]
struct AnswerEnds {
    /// That of any attempt.
    all: Instant,
    /// That of the current one, where its rule bounds it.
    attempt: Option<Instant>,
}

/// What is known of a failure beside what failed.
#[derive(Clone, Copy)]
pub(super) struct PlainFailure {
    pub(super) failure: AttemptFailure,
    /// All of the request that was read can be sent again.
    pub(super) is_replayable: bool,
    pub(super) now: Instant,
}

impl Passthrough {
    /// Leases a first endpoint; without one the backend has nobody.
    pub(super) fn start(
        live: &Snapshot,
        targets: Vec<Arc<FollowedRule>>,
        method: &Method,
        now: Instant,
    ) -> Result<Self, Rejection> {
        let found = lease(live, &targets, &[], now);
        let (target, lease) = found.ok_or_else(|| no_endpoint(live, &targets, now))?;
        live.upstreams.retry_budgets[targets[target].pool.0].request(now);
        let total = targets[target].rule.timeouts.request;
        let total = total.unwrap_or(live.pool_spec(targets[target].pool).timeouts.total);
        Ok(Self {
            mark: lease.endpoint().mark(),
            targets,
            target,
            lease: Some(lease),
            tried: Vec::new(),
            count: 1,
            is_reconnect: false,
            ends: AnswerEnds { all: now + total, attempt: None },
            is_idempotent: method.is_idempotent(),
            copy: None,
            picked: None,
            length: None,
        })
    }

    /// Moves to the first of the endpoints that the backend's picker has named which may be leased.
    pub(super) fn take_pick(&mut self, live: &Snapshot, answer: PickerAnswer, now: Instant) -> bool {
        self.picked = Some(Box::new(answer));
        self.lease_named(live, now)
    }

    fn lease_named(&mut self, live: &Snapshot, now: Instant) -> bool {
        let (Some(picked), request) = (&self.picked, PickRequest::default()) else { return false };
        let pool = live.pool(self.via().pool);
        let lease = picked.endpoints.iter().find_map(|addr| pool.lease_at(*addr, &request, &self.tried, now));
        let Some(lease) = lease else { return false };
        self.mark = lease.endpoint().mark();
        self.lease = Some(lease);
        true
    }

    /// The backend of the current attempt, and the rule that leads there.
    pub(super) fn via(&self) -> &Arc<FollowedRule> {
        &self.targets[self.target]
    }

    pub(super) fn spec<'a>(&self, live: &'a Snapshot) -> &'a PoolSpec {
        live.pool_spec(self.via().pool)
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        Some(self.lease.as_ref()?.endpoint())
    }

    /// What is left of the request's time.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.ends.all.saturating_duration_since(now)
    }

    /// Starts the time of an attempt.
    pub(super) fn begin_attempt(&mut self, now: Instant) {
        self.ends.attempt = self.via().rule.timeouts.attempt.map(|attempt| now + attempt);
    }

    /// Whether the answer should be whole by now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.ends.all || self.ends.attempt.is_some_and(|end| now >= end)
    }

    /// How long the current attempt waits before it is made.
    pub(super) fn backoff(&self, now: Instant) -> Option<Duration> {
        let wait = self.via().rule.retry.as_ref()?.backoff?;
        (self.count > 1 && !self.is_reconnect).then(|| wait.min(self.rest(now)))
    }

    /// How long the upstream may be silent in the current attempt.
    pub(super) fn silence(&self, live: &Snapshot, now: Instant) -> Duration {
        let timeouts = &self.spec(live).timeouts;
        let usual = timeouts.first_byte(false).max(timeouts.idle);
        self.via().rule.timeouts.attempt.unwrap_or(usual).min(self.rest(now))
    }

    /// Decides what follows a failure of the current attempt, and prepares it.
    pub(super) fn next(&mut self, failed: PlainFailure, live: &Snapshot, metrics: &Metrics) -> NextStep {
        let PlainFailure { failure, is_replayable, now } = failed;
        let is_open = is_replayable && now < self.ends.all;
        let may_repeat = is_open && self.is_idempotent && failure.is_of_connection();
        if may_repeat && !std::mem::replace(&mut self.is_reconnect, true) {
            return NextStep::Reconnect;
        }
        let is_status = matches!(failure, AttemptFailure::Status { .. });
        if let Some(lease) = self.lease.as_ref().filter(|_| !is_status && failure.blame() == Blame::Endpoint)
        {
            report_failure(lease, self.spec(live), now, metrics);
        }
        if is_open && self.is_retried(failure, live) && self.retry(failure, live, now, metrics) {
            return NextStep::Retry;
        }
        failure.give_up()
    }

    /// Whether the failure is one that another attempt is made after: what a rule lists, and what has reached nobody. What
    /// may have been done, by a request that does more when it is made twice, is not.
    fn is_retried(&self, failure: AttemptFailure, live: &Snapshot) -> bool {
        let of_rule = self.via().rule.retry.as_ref();
        let most = of_rule.map_or(live.policy.retry.attempts, |rule| rule.attempts);
        let is_listed = of_rule.is_some_and(|rule| failure.is_listed(&rule.codes));
        let has_reached_nobody = matches!(failure, AttemptFailure::Connect { .. });
        let is_lost = matches!(
            failure,
            AttemptFailure::Reset { answer_begun: false, .. }
                | AttemptFailure::Stalled { .. }
                | AttemptFailure::Late(LateBytes::First)
        );
        let may_repeat = is_lost && self.is_idempotent && (of_rule.is_some() || !is_late(failure));
        self.count < most && (is_listed || has_reached_nobody || may_repeat)
    }

    fn retry(&mut self, failure: AttemptFailure, live: &Snapshot, now: Instant, metrics: &Metrics) -> bool {
        let last = self.endpoint().map(Endpoint::addr);
        self.tried.extend(last);
        if self.picked.is_some() {
            return self.retry_named(failure, live, now, metrics);
        }
        // Where all were tried, the one that failed may do better now: that is what the rule asks for.
        let found = lease(live, &self.targets[self.target..], &self.tried, now)
            .or_else(|| lease(live, &self.targets[self.target..], &[], now));
        let Some((after, lease)) = found else { return false };
        if !live.upstreams.retry_budgets[self.via().pool.0].withdraw(now) {
            return false;
        }
        metrics.retried(&self.spec(live).name, failure.label());
        self.mark = lease.endpoint().mark();
        (self.target, self.lease, self.is_reconnect) = (self.target + after, Some(lease), false);
        self.count += 1;
        true
    }

    /// The same among the endpoints that a picker has named: no others are asked, in whichever pool.
    fn retry_named(
        &mut self,
        failure: AttemptFailure,
        live: &Snapshot,
        now: Instant,
        metrics: &Metrics,
    ) -> bool {
        let budget = &live.upstreams.retry_budgets[self.via().pool.0];
        if !budget.withdraw(now) || !self.lease_named(live, now) {
            return false;
        }
        metrics.retried(&self.spec(live).name, failure.label());
        (self.count, self.is_reconnect) = (self.count + 1, false);
        true
    }

    /// Gives the endpoint back, and tells its picker that the answer is whole.
    pub(super) fn finish(&mut self, status: u16, is_whole: bool) {
        if let Some(picked) = self.picked.take().filter(|_| is_whole) {
            picked.session.finish();
        }
        if let Some(lease) = self.lease.take().filter(|_| is_whole && (1..500).contains(&status)) {
            lease.succeeded();
        }
    }
}

/// Whether an endpoint of one of these backends is picked by another process.
pub(super) fn is_picked(live: &Snapshot, targets: &[Arc<FollowedRule>]) -> bool {
    targets.iter().any(|via| matches!(live.pool_spec(via.pool).balance, Balance::External(_)))
}

fn is_late(failure: AttemptFailure) -> bool {
    matches!(failure, AttemptFailure::Late(_))
}

/// Leases an endpoint of the first backend that has one.
fn lease(
    live: &Snapshot,
    targets: &[Arc<FollowedRule>],
    tried: &[SocketAddr],
    now: Instant,
) -> Option<(usize, Lease)> {
    let request = PickRequest::default();
    let lease = |via: &Arc<FollowedRule>| live.pool(via.pool).lease(&request, tried, now);
    targets.iter().enumerate().find_map(|(place, via)| Some((place, lease(via)?)))
}

fn no_endpoint(live: &Snapshot, targets: &[Arc<FollowedRule>], now: Instant) -> Rejection {
    let is_full = |via: &Arc<FollowedRule>| live.pool(via.pool).is_full(now);
    if targets.iter().any(is_full) {
        return Rejection::Overloaded { retry_after: RETRY_AFTER };
    }
    Rejection::NoBackendEndpoint { retry_after: RETRY_AFTER }
}
