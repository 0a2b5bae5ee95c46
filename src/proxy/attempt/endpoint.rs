//! Owns what is known of the endpoint of the current attempt: why it was chosen, what the request costs it, whether it sleeps.
//!
//! Decides nothing.

use super::Attempts;
use crate::balance::{ChoiceMargin, RequestWork};
use crate::snapshot::Snapshot;
use std::time::{Duration, Instant};

impl Attempts {
    /// What the request costs the current endpoint; `None` where nothing in its pool goes by that.
    pub(in crate::proxy) fn work(&self) -> Option<RequestWork> {
        self.lease.as_ref()?.work()
    }

    /// The data-parallel rank that the request is to go to at the current endpoint, where it matters which.
    pub(in crate::proxy) fn rank(&self) -> Option<u16> {
        self.lease.as_ref()?.rank()
    }

    /// What the current endpoint was chosen by.
    pub(in crate::proxy) fn margin(&self) -> Option<ChoiceMargin> {
        self.lease.as_ref()?.margin()
    }

    /// Whether the current endpoint was chosen by what endpoints have cached.
    pub(in crate::proxy) fn goes_by_prompt(&self, live: &Snapshot) -> bool {
        live.pool(self.target().pool(&live.policy)).reads_prompt()
    }

    /// How long the current endpoint's engine may take to wake, where it sleeps and is woken.
    pub(in crate::proxy) fn sleeping_for(&self, live: &Snapshot) -> Option<Duration> {
        let timeout = self.spec(live).limits.wake?;
        self.lease.as_ref().is_some_and(|lease| lease.endpoint().is_asleep()).then_some(timeout)
    }

    /// Notes that the current endpoint's engine is awake.
    pub(in crate::proxy) fn note_awake(&self) {
        if let Some(lease) = &self.lease {
            lease.endpoint().note_asleep(false);
        }
    }

    /// Reports whether another endpoint computes the prompt.
    pub(in crate::proxy) fn prefill_elsewhere(&self, elsewhere: bool, now: Instant) {
        if let Some(lease) = &self.lease {
            lease.prefill_elsewhere(elsewhere, now);
        }
    }
}
