//! Owns the way from a plan's targets to a leased endpoint: the same for first attempts, retries and shadow copies.
//!
//! Knows nothing of why an attempt failed.

use super::plan::PlanTarget;
use crate::balance::{EndpointForecast, Lease, PickPrompt, PickRequest, ReplicaForecast, hash_key};
use crate::classify::read_beside;
use crate::openai::ChatRequest;
use crate::policy::{Balance, HashKey, ModelRef, PoolId, PoolSpec};
use crate::snapshot::Snapshot;
use http::HeaderMap;
use std::net::SocketAddr;
use std::time::Instant;

/// What the choice of an endpoint goes by.
#[derive(Clone, Copy)]
pub struct LeaseInput<'a> {
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// The request as the client wrote it.
    pub request: &'a ChatRequest,
    /// The request as it goes upstream.
    pub upstream_request: &'a ChatRequest,
    /// The endpoints that had the request already.
    pub tried: &'a [SocketAddr],
    /// Whether endpoints that had better not be asked, since they refused the model or keep failing, are asked where
    /// there are no others.
    pub last_resort: bool,
    /// The present moment.
    pub now: Instant,
}

/// An endpoint that a request may be sent to, and the target that it serves.
#[derive(Debug)]
pub struct LeasedTarget {
    /// The place of the target among those that were given.
    pub place: usize,
    /// The endpoint, until the last byte.
    pub lease: Lease,
}

/// Leases an endpoint for the first of `targets` that has one.
///
/// A target whose endpoints had better not be asked comes after all that have others.
pub fn lease_endpoint(
    snapshot: &Snapshot,
    targets: &[PlanTarget],
    input: LeaseInput<'_>,
) -> Option<LeasedTarget> {
    let policy = &snapshot.policy;
    let prompt = PickPrompt::new(input.upstream_request);
    if let Some(first) = targets.first() {
        read_prompt(snapshot, first.pool(policy), &prompt, input);
    }
    let owner = input
        .request
        .previous_response()
        .and_then(|id| snapshot.upstreams.response_owners.get(hash_key(id.as_bytes()), input.now))
        .map(|owner| owner.endpoint);
    let lease = |target: &PlanTarget, last_resort: bool| {
        let pool = target.pool(policy);
        let replica = target.replica;
        let request = PickRequest { owner, replica, ..pick_request(snapshot, target, pool, &prompt, input) };
        let pool = snapshot.pool(pool);
        if last_resort {
            pool.lease(&request, input.tried, input.now)
        } else {
            pool.lease_preferred(&request, input.tried, input.now)
        }
    };
    let first = |last_resort| {
        let mut leases = targets.iter().map(|target| lease(target, last_resort)).enumerate();
        leases.find_map(|(place, lease)| Some(LeasedTarget { place, lease: lease? }))
    };
    // What a request goes on from only its owner has, in whichever pool that is.
    let of_owner = owner.and_then(|owner| {
        let has_owner =
            |target: &PlanTarget| snapshot.pool(target.pool(policy)).can_lease(owner, input.tried, input.now);
        let place = targets.iter().position(has_owner)?;
        Some(LeasedTarget { place, lease: lease(&targets[place], false)? })
    });
    of_owner.or_else(|| first(false)).or_else(|| if input.last_resort { first(true) } else { None })
}

/// Leases an endpoint of another pool, to compute the prompt of a request that one of `target`'s pool will answer.
pub fn lease_prefill(
    snapshot: &Snapshot,
    target: &PlanTarget,
    pool: PoolId,
    input: LeaseInput<'_>,
) -> Option<Lease> {
    let prompt = PickPrompt::new(input.upstream_request);
    read_prompt(snapshot, pool, &prompt, input);
    // Its answer is one token.
    let request = PickRequest { streams: false, ..pick_request(snapshot, target, pool, &prompt, input) };
    snapshot.pool(pool).lease_preferred(&request, input.tried, input.now)
}

/// Reads a long prompt beside the proxy's threads, where the choice in a pool goes by it.
fn read_prompt(snapshot: &Snapshot, pool: PoolId, prompt: &PickPrompt<'_>, input: LeaseInput<'_>) {
    let is_read = snapshot.pool(pool).reads_prompt() || snapshot.pool_spec(pool).prefill.is_some();
    if is_read && keeps_prompt(input.upstream_request) {
        read_beside(input.upstream_request.body().len(), || prompt.tokens());
    }
}

/// Engines keep what they generate from; of an embedding they keep nothing.
pub(super) fn keeps_prompt(request: &ChatRequest) -> bool {
    request.api().generates_text()
}

fn pick_request<'a>(
    snapshot: &'a Snapshot,
    target: &'a PlanTarget,
    pool: PoolId,
    prompt: &'a PickPrompt<'a>,
    input: LeaseInput<'a>,
) -> PickRequest<'a> {
    let spec = snapshot.pool_spec(pool);
    PickRequest {
        key: session_key(spec, input),
        owner: None,
        replica: None,
        model: target.upstream_model(&snapshot.policy),
        adapter: target.lora.as_deref(),
        prompt: keeps_prompt(input.upstream_request).then_some(prompt),
        streams: input.request.stream(),
        needs_work: spec.prefill.is_some() || snapshot.models.measures_latency && spec.balance.goes_by_work(),
        known: None,
    }
}

/// The replica of a model that would get a request, and the index of its pool among the model's routes: of the first that
/// has an endpoint. Nothing where that pool does not go by what replicas have cached and to do.
pub(super) fn best_replica(
    snapshot: &Snapshot,
    one: &ModelRef,
    prompt: &PickPrompt<'_>,
    now: Instant,
) -> Option<(usize, ReplicaForecast)> {
    let routes = &snapshot.policy[one.model].routes;
    let at = routes.iter().position(|route| snapshot.pool(route.pool).available(now) > 0)?;
    let pick = PickRequest {
        model: one.lora.as_deref().unwrap_or(&routes[at].upstream_model),
        adapter: one.lora.as_deref(),
        prompt: Some(prompt),
        ..PickRequest::default()
    };
    Some((at, snapshot.pool(routes[at].pool).best_replica(&pick, now)?))
}

/// How the endpoints of a target's pool stand for a request, which is not sent; and the tokens of its prompt, at four
/// bytes a token.
pub fn forecast(
    snapshot: &Snapshot,
    target: &PlanTarget,
    request: &ChatRequest,
    now: Instant,
) -> (u32, Vec<EndpointForecast>) {
    let policy = &snapshot.policy;
    let prompt = PickPrompt::new(request);
    let pick = PickRequest {
        key: None,
        owner: None,
        replica: None,
        model: target.upstream_model(policy),
        adapter: target.lora.as_deref(),
        prompt: keeps_prompt(request).then_some(&prompt),
        streams: request.stream(),
        needs_work: false,
        known: None,
    };
    (prompt.tokens(), snapshot.pool(target.pool(policy)).forecast(&pick, now))
}

/// What the pool keeps requests together by, hashed; `None` where it does not, or the client sent none.
fn session_key(spec: &PoolSpec, input: LeaseInput<'_>) -> Option<u64> {
    match &spec.balance {
        Balance::Hash(HashKey::Header(name)) => Some(hash_key(input.headers.get(name)?.as_bytes())),
        Balance::Hash(HashKey::Field(name)) => Some(hash_key(input.request.field(name)?.as_bytes())),
        Balance::Hash(HashKey::SessionKey(name)) => match input.headers.get(name) {
            Some(value) => Some(hash_key(value.as_bytes())),
            None => Some(hash_key(input.request.field(name)?.as_bytes())),
        },
        Balance::RoundRobin
        | Balance::LeastRequest
        | Balance::Auto
        | Balance::Scored(_)
        | Balance::External(_) => None,
    }
}
