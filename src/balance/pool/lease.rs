//! Owns the leases that requests hold on a pool's members.
//! Refuses to know how a member is chosen, what a request is and what counts as its success or failure.

use super::Pool;
use crate::balance::endpoint::Endpoint;
use crate::balance::picker::ChoiceMargin;
use crate::balance::refusals::Refusal;
use crate::balance::token_load::RequestWork;
use crate::balance::token_progress::StreamPhase;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One request on one endpoint: counted in flight from its making to its drop, exactly once.
///
/// It cannot be cloned; hold it until the last byte.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    member: usize,
    /// The model that is asked for, by its name's hash.
    model: u64,
    taken: Instant,
    failed: AtomicBool,
    grounds: LeaseGrounds,
    /// Whether the endpoint still computes the prompt.
    in_prefill: AtomicBool,
    /// Whether the answer comes token by token.
    streams: bool,
    /// Whether its first token is still to come.
    awaits_token: AtomicBool,
    /// Whether another endpoint computes the prompt for this one.
    is_prefilled: AtomicBool,
}

/// What is known of a request and its endpoint by the choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeaseGrounds {
    /// What the request costs the endpoint, where the pool goes by that.
    pub(super) work: Option<RequestWork>,
    /// What comes before its first token, in tokens to compute.
    pub(super) expected: Option<f64>,
    /// What its endpoint was chosen by.
    pub(super) margin: Option<ChoiceMargin>,
    /// The data-parallel rank that it is sent to by name.
    pub(super) rank: Option<u16>,
}

/// What a lease is made with, beside its endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseTerms {
    /// The model that is asked for, by its name's hash.
    pub(super) model: u64,
    pub(super) grounds: LeaseGrounds,
    pub(super) streams: bool,
    pub(super) now: Instant,
}

impl Lease {
    /// Makes a lease on a member that counts the request already.
    pub(super) fn new(pool: Arc<Pool>, member: usize, terms: LeaseTerms) -> Self {
        let LeaseTerms { model, grounds, streams, now } = terms;
        let lease = Self {
            pool,
            member,
            model,
            taken: now,
            failed: AtomicBool::new(false),
            grounds,
            in_prefill: AtomicBool::new(grounds.work.is_some()),
            streams,
            awaits_token: AtomicBool::new(true),
            is_prefilled: AtomicBool::new(false),
        };
        if streams {
            let endpoint = lease.endpoint();
            endpoint.engine().progress.begin(now, endpoint.in_flight());
        }
        if let Some(work) = grounds.work {
            lease.endpoint().engine().load.begin(work, now);
        }
        lease
    }

    /// What the request was taken to cost its endpoint; `None` where the pool does not go by that.
    pub fn work(&self) -> Option<RequestWork> {
        self.grounds.work
    }

    /// What came before the request's first token when it was sent, in tokens to compute; `None` as [`Self::work`].
    pub fn expected_work(&self) -> Option<f64> {
        self.grounds.expected.filter(|_| !self.is_prefilled.load(Ordering::Relaxed))
    }

    /// What its endpoint was chosen by, and what the best of the others had; `None` where that is a turn, a draw or a key.
    pub fn margin(&self) -> Option<ChoiceMargin> {
        self.grounds.margin
    }

    /// The data-parallel rank of its endpoint's engine that the request is to go to, where it matters which.
    pub fn rank(&self) -> Option<u16> {
        self.grounds.rank
    }

    /// Reports that a token has come at `now`, the first or another.
    ///
    /// `Some` when the first came so late that it ejected the endpoint, with how long.
    pub fn token(&self, now: Instant) -> Option<Duration> {
        let endpoint = self.endpoint();
        endpoint.engine().progress.token(now, endpoint.in_flight());
        self.end_prefill();
        // Whatever was heard of it: one that sleeps gives none.
        endpoint.note_asleep(false);
        let is_first =
            self.awaits_token.load(Ordering::Relaxed) && self.awaits_token.swap(false, Ordering::Relaxed);
        if !is_first || !self.streams {
            return None;
        }
        endpoint.engine().progress.decode();
        self.pool.first_token(endpoint, now.saturating_duration_since(self.taken), now)
    }

    /// Reports that another endpoint, which was asked later, has given its first token at `now` before this one: it is at
    /// least as slow as that.
    ///
    /// `Some` when that ejected the endpoint, with how long.
    pub fn outrun(&self, now: Instant) -> Option<Duration> {
        let is_first = self.awaits_token.load(Ordering::Relaxed) && self.streams;
        let ttft = now.saturating_duration_since(self.taken);
        is_first.then(|| self.pool.first_token(self.endpoint(), ttft, now)).flatten()
    }

    /// When the request was sent here.
    pub fn taken(&self) -> Instant {
        self.taken
    }

    /// Ends the counting of the prompt as one that is computed.
    fn end_prefill(&self) {
        if let Some(work) = self.grounds.work
            && self.in_prefill.load(Ordering::Relaxed)
            && self.in_prefill.swap(false, Ordering::Relaxed)
        {
            self.endpoint().engine().load.end_prefill(work);
        }
    }

    /// Reports whether another endpoint computes the prompt, as of `now`; its tokens are then no work of this one.
    pub fn prefill_elsewhere(&self, elsewhere: bool, now: Instant) {
        let Some(work) = self.grounds.work else { return };
        if self.is_prefilled.swap(elsewhere, Ordering::Relaxed) == elsewhere {
            return;
        }
        let load = &self.endpoint().engine().load;
        if elsewhere {
            self.end_prefill();
            load.take_back(work, now);
        } else {
            load.begin_prefill(work, now);
            self.in_prefill.store(true, Ordering::Relaxed);
        }
    }

    /// Reports how many tokens of the prompt the endpoint had cached, by its own account; what it got from another counts
    /// there.
    pub fn cached(&self, cached: u64, prompt: u64) {
        if let Some(work) = self.grounds.work
            && prompt > 0
            && !self.is_prefilled.load(Ordering::Relaxed)
        {
            let predicted = work.cached() as f32 / work.prompt.max(1) as f32;
            self.endpoint().engine().prefixes().correct(predicted, cached as f32 / prompt as f32);
        }
    }

    /// The endpoint that the request goes to.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.pool.members()[self.member].endpoint
    }

    /// Reports that the request went well, to its end: failures in a row start anew, an endpoint on probation is back.
    ///
    /// Changes nothing once the lease has failed.
    pub fn succeeded(&self) {
        if !self.failed.load(Ordering::Relaxed) {
            self.endpoint().succeeded(self.taken);
            self.endpoint().answered(self.model);
        }
    }

    /// Reports at `now` that the endpoint failed the request; `Some` when that ejected it, with how long.
    ///
    /// A lease fails once; further calls change nothing.
    pub fn failed(&self, now: Instant) -> Option<Duration> {
        if self.failed.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.pool.failed(self.endpoint(), self.taken, now)
    }

    /// Reports that the endpoint refused the model; `Some` when that keeps its requests away, with how long.
    pub fn refused(&self, refusal: Refusal, now: Instant) -> Option<Duration> {
        self.failed.store(true, Ordering::Relaxed);
        self.endpoint().refused(self.model, refusal, now)
    }

    /// Whether another endpoint may be asked what this one refused, to tell whose fault that is.
    pub fn may_compare(&self, now: Instant) -> bool {
        self.endpoint().may_compare(now)
    }

    /// Reports that another endpoint refused the same.
    pub fn compared_in_vain(&self, now: Instant) {
        self.endpoint().compared_in_vain(now);
    }

    /// Whether the endpoint is known to refuse the model, or to fail.
    pub fn is_passed_over(&self, now: Instant) -> bool {
        self.endpoint().is_passed_over(self.model, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end_prefill();
        if self.streams {
            let awaits_token = self.awaits_token.load(Ordering::Relaxed);
            let phase = if awaits_token { StreamPhase::Prefill } else { StreamPhase::Decode };
            self.endpoint().engine().progress.end(phase);
        }
        if let Some(work) = self.grounds.work {
            self.endpoint().engine().load.end(work);
        }
        if let Some((rank, account)) = self.grounds.rank.zip(self.endpoint().engine().kv.get()) {
            account.leave(rank);
        }
        self.endpoint().leave();
        if let Some(gate) = &self.pool.gate {
            gate.ended(Instant::now());
        }
    }
}
