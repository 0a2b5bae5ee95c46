//! Owns what is known of the endpoint of the current attempt: why it was chosen, what the request costs it, whether it sleeps.
//!
//! Decides nothing.

use super::Attempts;
use crate::balance::{ChoiceMargin, Endpoint, LoadReport, RequestWork};
use crate::proxy::concurrent_prefill::{ConcurrentPrefill, PrefillEnd};
use crate::snapshot::Snapshot;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

impl Attempts {
    pub(in crate::proxy) fn endpoint(&self) -> Option<SocketAddr> {
        Some(self.leased()?.addr())
    }

    /// The current endpoint.
    pub(in crate::proxy) fn leased(&self) -> Option<&Endpoint> {
        Some(self.lease.as_ref()?.endpoint())
    }

    /// The current endpoint's host and port, as the policy writes them.
    pub(in crate::proxy) fn authority(&self) -> Option<&str> {
        Some(self.lease.as_ref()?.endpoint().host())
    }

    /// Whether the current endpoint's engine has shown its metrics.
    pub(in crate::proxy) fn has_engine_metrics(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.endpoint().engine_metrics().is_some())
    }

    /// Takes over what the current endpoint's engine reports of its load.
    pub(in crate::proxy) fn note_load_report(&self, report: LoadReport, now: Instant) {
        if let Some(lease) = &self.lease {
            lease.endpoint().note_load_report(report, now);
        }
    }

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

    /// Has another endpoint compute the prompt at the same time, until the attempt ends.
    pub(in crate::proxy) fn set_concurrent_prefill(&mut self, prefill: ConcurrentPrefill) {
        self.connection.prefill = Some(prefill);
    }

    /// How the computing of the prompt at the same time has ended, where it has.
    pub(in crate::proxy) fn prefill_end(&self) -> Option<PrefillEnd> {
        self.connection.prefill.as_ref()?.progress.end()
    }

    /// The endpoints that have not computed the prompt.
    pub(in crate::proxy) fn failed_prefills(&self) -> &[SocketAddr] {
        &self.failed_prefills
    }

    /// Reports whether another endpoint computes the prompt.
    pub(in crate::proxy) fn prefill_elsewhere(&self, elsewhere: bool, now: Instant) {
        if let Some(lease) = &self.lease {
            lease.prefill_elsewhere(elsewhere, now);
        }
    }
}
