//! Owns the asking of a pool's external endpoint picker on behalf of the current attempt, and what its answer changes.
//!
//! The attempt has an endpoint already, by the pool's own choice: it stays where the picker cannot be asked and the
//! policy says so.

use super::{Attempts, PickContext};
use crate::balance::PickRequest;
use crate::openai::Rejection;
use crate::policy::{Balance, ExternalPicker, FailureMode};
use crate::proxy::ext_proc::{EndpointPickers, PickerAnswer, PickerFailure, PickerQuestion, PickerSession};
use crate::proxy::failure::RETRY_AFTER;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use http::{HeaderMap, StatusCode};
use std::net::SocketAddr;
use std::time::Instant;

/// What an external picker has said of the current attempt.
pub(in crate::proxy) struct ExternalPick {
    /// The attempt that it was said of.
    attempt: u32,
    /// The index of its target in the plan.
    target: usize,
    /// `None` where the picker could not be asked, and the pool's own choice holds.
    answer: Option<PickerAnswer>,
}

/// What external pickers are asked through, and what they are told of the request's header.
pub(in crate::proxy) struct PickerContext<'a> {
    pub(in crate::proxy) pickers: &'a EndpointPickers,
    pub(in crate::proxy) path: &'a str,
    pub(in crate::proxy) metrics: &'a Metrics,
}

impl Attempts {
    /// Whether the current attempt's endpoint is still to be picked by another process.
    pub(in crate::proxy) fn awaits_external_pick(&self, live: &Snapshot) -> bool {
        matches!(self.spec(live).balance, Balance::External(_)) && self.external_pick().is_none()
    }

    /// Has the picker of the current target's pool choose its endpoint. Where it cannot, the next target has its turn,
    /// by its own pool's picker if it has one.
    pub(in crate::proxy) async fn pick_externally(
        &mut self,
        pick: PickContext<'_>,
        context: PickerContext<'_>,
        headers_for: impl Fn(&Self) -> Result<HeaderMap, Rejection>,
    ) -> Result<(), Rejection> {
        let live = pick.live;
        loop {
            let Balance::External(picker) = &self.spec(live).balance else { return Ok(()) };
            if self.take_next_named(pick) {
                return Ok(());
            }
            let began = Instant::now();
            let answered = self.ask(picker, pick, &context, headers_for(self)?).await;
            let label = answered.as_ref().map_or_else(PickerFailure::label, |()| "picked");
            context.metrics.picked_externally(&self.spec(live).name, label, began.elapsed());
            let Err(failure) = answered else { return Ok(()) };
            let is_open = picker.failure_mode == FailureMode::FailOpen;
            if is_open && matches!(failure, PickerFailure::Unavailable(_)) {
                self.note_external(None);
                return Ok(());
            }
            tracing::debug!(pool = %self.spec(live).name, ?failure, "no endpoint was picked");
            let Some((target, lease)) = self.candidate(pick, self.target + 1, true) else {
                return Err(failure.rejection());
            };
            // The target before was never tried.
            self.count -= 1;
            self.switch_to(live, target, lease)?;
        }
    }

    /// Moves a retry to the next endpoint that the picker named for the attempt before, if there is one.
    fn take_next_named(&mut self, pick: PickContext<'_>) -> bool {
        let Some(mut earlier) = self.external.take_if(|pick| pick.target == self.target) else {
            return false;
        };
        let Some(answer) = earlier.answer.as_ref() else { return false };
        if !self.move_to(&answer.endpoints, pick) {
            return false;
        }
        if let Some(body) = &answer.body {
            self.body = body.clone();
        }
        earlier.attempt = self.count;
        self.external = Some(earlier);
        true
    }

    async fn ask(
        &mut self,
        picker: &ExternalPicker,
        pick: PickContext<'_>,
        context: &PickerContext<'_>,
        headers: HeaderMap,
    ) -> Result<(), PickerFailure> {
        let pool = pick.live.pool(self.target().pool(&pick.live.policy));
        let open = pool.available_addresses(&self.tried, pick.now);
        let body = self.body.clone();
        let question = PickerQuestion {
            path: context.path,
            headers,
            body: &body,
            subset: (open.len() < pool.members().len()).then_some(&open),
            timeout: picker.timeout.min(self.deadline.rest(Instant::now())),
        };
        let answer = context.pickers.ask(picker, question).await?;
        if !self.move_to(&answer.endpoints, PickContext { now: Instant::now(), ..pick }) {
            return Err(PickerFailure::Unavailable("unknown_endpoint"));
        }
        if let Some(body) = &answer.body {
            self.body = body.clone();
        }
        self.note_external(Some(answer));
        Ok(())
    }

    /// Leases the first of the named endpoints that is available in the current target's pool.
    fn move_to(&mut self, named: &[SocketAddr], pick: PickContext<'_>) -> bool {
        let policy = &pick.live.policy;
        let target = &self.request.plan.targets[self.target];
        let pool = pick.live.pool(target.pool(policy));
        let request = PickRequest {
            model: target.upstream_model(policy),
            streams: self.request.request.stream(),
            ..PickRequest::default()
        };
        let lease = named.iter().find_map(|addr| pool.lease_at(*addr, &request, &self.tried, pick.now));
        let Some(lease) = lease else { return false };
        self.connection.mark = lease.endpoint().mark();
        self.lease = Some(lease);
        true
    }

    fn note_external(&mut self, answer: Option<PickerAnswer>) {
        self.external = Some(Box::new(ExternalPick { attempt: self.count, target: self.target, answer }));
    }

    fn external_pick(&self) -> Option<&ExternalPick> {
        self.external.as_deref().filter(|pick| pick.attempt == self.count)
    }

    /// Why the current attempt has its endpoint, where its pool has an external picker.
    pub(in crate::proxy) fn external_reason(&self) -> Option<&'static str> {
        Some(self.external_pick()?.answer.as_ref().map_or("external_failed", |_| "external"))
    }

    /// What the picker said of the current attempt.
    pub(in crate::proxy) fn picker_answer(&self) -> Option<&PickerAnswer> {
        self.external_pick()?.answer.as_ref()
    }

    /// The picker's stream of the current attempt, to tell it of the answer.
    pub(in crate::proxy) fn picker_session(&mut self) -> Option<&mut PickerSession> {
        let count = self.count;
        let pick = self.external.as_mut().filter(|pick| pick.attempt == count)?;
        Some(&mut pick.answer.as_mut()?.session)
    }

    /// Tells the picker that the answer is whole.
    pub(super) fn finish_external(&mut self, is_whole: bool) {
        if let Some(pick) = self.external.take()
            && pick.attempt == self.count
            && is_whole
            && let Some(answer) = pick.answer
        {
            answer.session.finish();
        }
    }
}

impl PickerFailure {
    pub(in crate::proxy) fn rejection(self) -> Rejection {
        match self {
            Self::Refused { status, text, retry_after } => {
                let is_for_now =
                    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
                let retry_after = retry_after.or(is_for_now.then_some(RETRY_AFTER));
                Rejection::PickerRefused { status, text, retry_after }
            }
            Self::Unavailable(_) => Rejection::PickerUnavailable { retry_after: RETRY_AFTER },
        }
    }
}
