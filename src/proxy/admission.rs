//! Owns whether a request may go to its pool now, waits until it may, or is refused; and what its record says of that.
//!
//! Judges nothing: the policy gives priorities, and the pools' gates say who has room.

use super::exchange::Exchange;
use super::planned_request::PlannedRequest;
use crate::balance::{
    AdmissionDecision, AdmissionGate, AdmissionPermit, AdmissionRefusal, AdmissionVerdict, QueuedRequest,
    hash_key,
};
use crate::openai::{ChatRequest, Rejection, ShedReason};
use crate::policy::{PoolId, Principal, PriorityInput};
use crate::route::{
    FAIRNESS_HEADERS, GateInput, GatedTarget, OBJECTIVE_HEADERS, find_gate, find_saturated_pool, sent_header,
};
use crate::telemetry::millis;
use http::HeaderMap;
use pingora_proxy::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What of a client its admission goes by.
#[derive(Debug, Default)]
pub(super) struct AdmissionClient {
    principal: Option<Principal>,
    /// The objective that it names, where it may.
    objective: Option<String>,
    /// The priority that a cluster's object of that name gives.
    objective_priority: Option<i32>,
    /// Whom its requests are counted with, hashed.
    tenant: u64,
}

/// Where an admitted request goes.
#[derive(Debug, Default)]
pub(super) struct AdmittedTarget {
    /// The place of the target in its plan.
    pub(super) place: usize,
    /// Held until the request has its lease.
    pub(super) permit: Option<AdmissionPermit>,
}

/// How the wait for a pool ends that the request does not go to.
#[derive(Debug)]
pub(super) enum NotAdmitted {
    Rejected(Rejection),
    ClientGone,
}

/// A pool with a request that wants to go there.
struct AdmissionRequest<'a> {
    pool: PoolId,
    gate: &'a AdmissionGate,
    /// How the model is called in what the client hears.
    model: &'a str,
    /// How long it may wait.
    max_wait: Duration,
}

impl AdmissionClient {
    /// Reads what the policy lets a client say of its request.
    pub(super) fn of(
        exchange: &Exchange,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        principal: Option<&Principal>,
    ) -> Self {
        let policy = &exchange.live.policy;
        let Some(admission) = &policy.admission else { return Self::default() };
        let is_trusted = peer.is_some_and(|peer| policy.identity.trusts(peer));
        let may_choose = admission.may_choose(is_trusted, principal.is_some());
        let sent = |names| sent_header(headers, names).filter(|_| may_choose);
        let own = principal.map(|principal| principal.tenant.as_ref().unwrap_or(&principal.user).clone());
        let tenant = sent(FAIRNESS_HEADERS).or(own).unwrap_or_default();
        let objective = sent(OBJECTIVE_HEADERS);
        let of_cluster = exchange.live.layers.routed().map(|routed| &routed.traffic.inference.objectives);
        let priority = objective.as_ref().and_then(|name| of_cluster?.get(name).copied());
        Self {
            principal: principal.cloned(),
            objective,
            objective_priority: priority,
            tenant: hash_key(tenant.as_bytes()),
        }
    }

    fn priority_input(&self) -> PriorityInput<'_> {
        PriorityInput {
            principal: self.principal.as_ref(),
            objective: self.objective.as_deref(),
            objective_priority: self.objective_priority,
            ..PriorityInput::default()
        }
    }
}

impl Exchange {
    /// Refuses a request that would be refused whatever its plan, before anything is spent on that.
    pub(super) fn shed_early(
        &mut self,
        request: &ChatRequest,
        client: &AdmissionClient,
        now: Instant,
    ) -> Result<(), Rejection> {
        let live = Arc::clone(&self.live);
        let found = find_saturated_pool(&live, request, client.priority_input(), now);
        let Some((pool, gate)) = found.and_then(|pool| Some((pool, live.pool(pool).gate()?))) else {
            return Ok(());
        };
        self.record_admission(pool, "saturated");
        Err(self.shed(request.model(), ShedReason::Saturated, gate))
    }

    /// Waits until a planned request may go to its pool; ends when its client leaves.
    pub(super) async fn wait_for_room(
        &mut self,
        session: &mut Session,
        planned: &PlannedRequest,
        client: &AdmissionClient,
    ) -> Result<AdmittedTarget, NotAdmitted> {
        let (live, now) = (Arc::clone(&self.live), Instant::now());
        let (policy, plan) = (&live.policy, &planned.plan);
        let input = GateInput {
            client: client.priority_input(),
            tenant: client.tenant,
            bytes: planned.request.body().len(),
        };
        let (Some(admission), Some(found)) = (&policy.admission, find_gate(&live, plan, input, now)) else {
            return Ok(AdmittedTarget::default());
        };
        let GatedTarget { place, pool, gate, request } = found;
        let Some(gate) = gate else { return Ok(AdmittedTarget { place, permit: None }) };
        let total = plan.effects.as_ref().and_then(|effects| effects.timeout);
        let total = total.unwrap_or(live.pool_spec(pool).timeouts.total);
        let AdmissionDecision { verdict, saturation, ahead } = gate.admit(request, &admission.queue, now);
        let record = &mut self.record.details().admission;
        record.priority = Some(request.priority);
        record.saturation = Some((saturation * 1e3).round() / 1e3);
        record.ahead = (ahead > 0).then_some(ahead);
        let request = AdmissionRequest {
            pool,
            gate,
            model: &policy[plan.targets[place].model].name,
            max_wait: admission.queue.max_wait.min(total.saturating_sub(self.opened.elapsed())),
        };
        let permit = match verdict {
            AdmissionVerdict::Pass(permit) => {
                self.record_admission(pool, "passed");
                permit
            }
            AdmissionVerdict::Wait(queued) => self.wait(session, &request, queued).await?,
            AdmissionVerdict::Refuse(refusal) => {
                return Err(NotAdmitted::Rejected(self.refuse(&request, refusal.into())));
            }
        };
        Ok(AdmittedTarget { place, permit: Some(permit) })
    }

    /// Waits for a request's turn.
    async fn wait(
        &mut self,
        session: &mut Session,
        request: &AdmissionRequest<'_>,
        mut queued: QueuedRequest,
    ) -> Result<AdmissionPermit, NotAdmitted> {
        let began = Instant::now();
        self.record_admission(request.pool, "left");
        // What waits has no slot of those that are worked on: however many of low priority do, others find one.
        self.active.wait();
        let turn = tokio::select! {
            biased;
            turn = queued.turn() => Some(turn),
            _left = session.as_downstream_mut().read_body_or_idle(true) => None,
            () = tokio::time::sleep(request.max_wait) => Some(Err(AdmissionRefusal::Expired)),
        };
        self.active.go_on();
        self.record.details().admission.queued_ms = Some(millis(began.elapsed()));
        match turn {
            Some(Ok(permit)) => {
                self.record_admission(request.pool, "waited");
                Ok(permit)
            }
            Some(Err(refusal)) => Err(NotAdmitted::Rejected(self.refuse(request, refusal.into()))),
            None => Err(NotAdmitted::ClientGone),
        }
    }

    fn refuse(&mut self, request: &AdmissionRequest<'_>, reason: ShedReason) -> Rejection {
        self.record_admission(request.pool, reason.as_str());
        self.shed(request.model, reason, request.gate)
    }

    fn shed(&mut self, model: &str, reason: ShedReason, gate: &AdmissionGate) -> Rejection {
        self.record.details().admission.dropped_reason = Some(reason.dropped_reason());
        let wait = gate.expected_wait(Instant::now());
        // A whole second too many rather than one too few.
        let retry_after = Duration::from_secs(wait.as_millis().div_ceil(1000) as u64);
        Rejection::Shed { model: model.to_owned(), reason, retry_after }
    }

    fn record_admission(&mut self, pool: PoolId, result: &'static str) {
        self.record.upstream.pool = Some(self.live.pool_spec(pool).name.clone());
        self.record.details().admission.result = Some(result);
    }
}
