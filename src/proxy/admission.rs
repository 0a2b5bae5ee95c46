//! Owns whether a request may go to its pool now, waits until it may, or is refused; and what its record says of that.
//!
//! Judges nothing: the policy gives priorities, and the pools' gates say who has room.

use super::exchange::Exchange;
use super::planned_request::PlannedRequest;
use crate::balance::{
    AdmissionGate, AdmissionPermit, AdmissionRefusal, AdmissionVerdict, GateRequest, QueuedRequest, hash_key,
};
use crate::openai::{ChatRequest, Rejection, ShedReason};
use crate::policy::{PoolId, Principal, PriorityInput};
use crate::route::{find_saturated_pool, find_target_with_room};
use crate::telemetry::millis;
use http::HeaderMap;
use pingora_proxy::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a client names what its request is for: llm-d's header, and the Gateway API's before it.
const OBJECTIVE_HEADERS: [&str; 2] = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];

/// Where a client names whom its request is counted with.
const FAIRNESS_HEADERS: [&str; 2] = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];

/// What of a client its admission goes by.
#[derive(Debug, Default)]
pub(super) struct AdmissionClient {
    principal: Option<Principal>,
    /// The objective that it names, where it may.
    objective: Option<String>,
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
    gate: &'a Arc<AdmissionGate>,
    priority: i32,
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
        let sent = |names: [&str; 2]| {
            let values = names.into_iter().filter(|_| may_choose).filter_map(|name| headers.get(name));
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).next()
        };
        let own = principal.map(|principal| principal.tenant.as_ref().unwrap_or(&principal.user).clone());
        let tenant = sent(FAIRNESS_HEADERS).or(own).unwrap_or_default();
        Self {
            principal: principal.cloned(),
            objective: sent(OBJECTIVE_HEADERS),
            tenant: hash_key(tenant.as_bytes()),
        }
    }

    fn priority_input(&self) -> PriorityInput<'_> {
        PriorityInput {
            principal: self.principal.as_ref(),
            objective: self.objective.as_deref(),
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
        let Some(admission) = &policy.admission else { return Ok(AdmittedTarget::default()) };
        let place = find_target_with_room(&live, &plan.targets, now);
        let target = &plan.targets[place];
        let pool = target.route(policy).pool;
        let Some(gate) = live.pool(pool).gate() else { return Ok(AdmittedTarget { place, permit: None }) };
        let effects = plan.effects.as_deref();
        let total = effects.and_then(|effects| effects.timeout);
        let total = total.unwrap_or(live.pool_spec(pool).timeouts.total);
        let request = AdmissionRequest {
            pool,
            gate,
            priority: admission.priority(PriorityInput {
                decision: effects.and_then(|effects| effects.priority),
                model: policy[target.model].priority,
                ..client.priority_input()
            }),
            model: &policy[target.model].name,
            max_wait: admission.queue.max_wait.min(total.saturating_sub(self.opened.elapsed())),
        };
        self.record.details().admission.priority = Some(request.priority);
        let waiting = GateRequest {
            priority: request.priority,
            tenant: client.tenant,
            bytes: planned.request.body().len(),
        };
        let permit = match gate.admit(waiting, &admission.queue, now) {
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

impl From<AdmissionRefusal> for ShedReason {
    fn from(refusal: AdmissionRefusal) -> Self {
        match refusal {
            AdmissionRefusal::Saturated => Self::Saturated,
            AdmissionRefusal::QueueFull => Self::QueueFull,
            AdmissionRefusal::Displaced => Self::Displaced,
            AdmissionRefusal::Expired => Self::Expired,
        }
    }
}
