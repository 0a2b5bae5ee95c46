//! Owns what an exchange records of the endpoint that has it: when an attempt begins, and when another answers in its place.
//!
//! Chooses nothing.

use super::{BegunAttempt, Exchange};
use crate::proxy::hedge::Racer;
use crate::telemetry::{EndpointMarginRecord, Metrics, UpstreamRecord, millis};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Instant;

impl Exchange {
    /// Records the attempt that is about to be made.
    pub(in crate::proxy) fn begin_attempt(
        &mut self,
        headers: &HeaderMap,
        metrics: &Arc<Metrics>,
    ) -> Option<BegunAttempt<'_>> {
        self.attempts.as_mut()?.prepare_hedge(&self.live, headers, metrics);
        self.record_endpoint();
        let attempts = self.attempts.as_ref()?;
        if attempts.is_fallback() {
            self.record.routing.model = Some(self.live.policy[attempts.target().model].name.clone());
        }
        Some(BegunAttempt {
            spec: attempts.spec(&self.live),
            endpoint: attempts.leased()?,
            is_reconnect: attempts.is_reconnect(),
            hedge: attempts.hedge(),
            mark: attempts.mark(),
            limits: attempts.limits(&self.live, Instant::now()),
            header_bytes: self.header_bytes,
        })
    }

    /// Takes over how the computing of the prompt beside the last attempt has ended, where it has.
    pub(super) fn record_prefill(&mut self) {
        let Some(end) = self.attempts.as_ref().and_then(super::Attempts::prefill_end) else { return };
        let record = &mut self.record.details().prefill;
        record.result = end.failure.or(record.result);
        record.ms = Some(millis(end.took));
        if end.failure.is_none() {
            record.cached_tokens = Some(end.usage.map_or(0, |usage| usage.cached_tokens));
        }
    }

    /// Takes over which of two endpoints answers, where two were asked.
    pub(in crate::proxy) fn settle_hedge(&mut self, metrics: &Metrics) {
        let settle = |attempts: &mut super::Attempts| {
            attempts.hedge().is_some() && attempts.settle_hedge(&self.live, Instant::now(), metrics)
        };
        if self.attempts.as_mut().is_some_and(settle) {
            self.record_endpoint();
        }
    }

    /// Records the endpoint of the current attempt, and why it is that.
    fn record_endpoint(&mut self) {
        let Some(attempts) = &self.attempts else { return };
        let (work, goes_by_prompt) = (attempts.work(), attempts.goes_by_prompt(&self.live));
        self.record.upstream = UpstreamRecord {
            pool: Some(attempts.spec(&self.live).name.clone()),
            endpoint: attempts.endpoint(),
            tries: attempts.count(),
            reissued: attempts.is_reissued().then_some(true),
            hedged: attempts.answered_by().map(|racer| match racer {
                Racer::First => "first",
                Racer::Second => "second",
            }),
            upstream_request_id: None,
            endpoint_reason: work
                .filter(|_| goes_by_prompt)
                .map(|work| if work.cached() > 0 { "prefix" } else { "load" })
                .or_else(|| attempts.external_reason()),
            predicted_cached_tokens: work.map(|work| work.cached()),
            predicted_prompt_tokens: work.map(|work| work.prompt),
            margin: attempts.margin().map(EndpointMarginRecord::of).unwrap_or_default(),
        };
    }
}
