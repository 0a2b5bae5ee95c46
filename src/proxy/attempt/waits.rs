//! Owns what an attempt waits for: for how long, and whether another endpoint had better answer meanwhile.
//!
//! Knows nothing of what follows where it waits in vain.

use super::{AttemptLimits, Attempts};
use crate::balance::{LeaseWatch, ReissueWatch};
use crate::policy::RetryCause;
use crate::proxy::deadline::FirstByteWatch;
use crate::snapshot::Snapshot;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Attempts {
    /// Starts the timeout for the answer's first byte, and watches whether the endpoint stays in its pool meanwhile.
    pub(in crate::proxy) fn await_first_byte(&self, live: &Snapshot, now: Instant) {
        let of_route = self.target().via.as_ref().and_then(|via| via.rule.timeouts.attempt);
        self.deadline.limit_attempt(now, of_route);
        let within = self.limits(live, now).first_byte;
        let retry = &live.policy.retry;
        let has_attempts = self.count < retry.attempts;
        let reissue = retry.reissue.filter(|_| has_attempts && self.request.may_be_reissued());
        let pools = self.request.plan.targets[self.target..]
            .iter()
            .map(|target| live.pool(target.pool(&live.policy)));
        // Where there is one endpoint alone, there is nothing to watch for.
        let may_move = (reissue.is_some() || (has_attempts && retry.covers(RetryCause::Reset)))
            && pools.clone().map(|pool| pool.members().len()).sum::<usize>() > 1;
        let watch = self.lease.as_ref().filter(|_| may_move).map(|lease| LeaseWatch {
            endpoint: Arc::clone(lease.endpoint()),
            pools: pools.map(Arc::clone).collect(),
            tried: self.tried.clone(),
            reissue: reissue.zip(live.upstreams.reissue_budget.as_ref()).map(|(reissue, budget)| {
                ReissueWatch { at: now + reissue.after, budget: Arc::clone(budget) }
            }),
            rival: self.connection.hedge.as_ref().map(|hedge| Arc::clone(&hedge.rival)),
        });
        let prefill = self.connection.prefill.as_ref().map(|prefill| Arc::clone(&prefill.progress));
        self.deadline.await_first_byte(now, within, FirstByteWatch { lease: watch, prefill });
    }

    /// How long the current attempt waits before it is made, as its route says of those after the first.
    pub(in crate::proxy) fn backoff(&self, now: Instant) -> Option<Duration> {
        let wait = self.target().via.as_ref()?.rule.retry.as_ref()?.backoff?;
        (self.count > 1 && !self.is_reconnect()).then(|| wait.min(self.deadline.rest(now)))
    }

    /// Whether a stream's header waits here for its first byte, so that another endpoint can answer until then.
    pub(in crate::proxy) fn holds_head(&self, live: &Snapshot) -> bool {
        let retry = &live.policy.retry;
        let is_reissued = retry.reissue.is_some() && self.request.may_be_reissued();
        (is_reissued || self.connection.prefill.is_some()) && self.count < retry.attempts
    }

    /// What bounds the waits of the current attempt, which begins at `now`.
    pub(in crate::proxy) fn limits(&self, live: &Snapshot, now: Instant) -> AttemptLimits {
        let timeouts = &self.spec(live).timeouts;
        AttemptLimits {
            rest: self.deadline.rest(now),
            first_byte: timeouts.first_byte(self.request.request.stream()),
            idle: timeouts.idle,
            body_len: self.body.len(),
        }
    }
}
