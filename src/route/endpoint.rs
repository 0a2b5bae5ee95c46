//! Owns the way from a plan's targets to a leased endpoint: the same for first attempts, retries and shadow copies.
//!
//! Knows nothing of why an attempt failed.

use super::plan::PlanTarget;
use crate::balance::{EndpointForecast, Lease, PickPrompt, PickRequest, hash_key};
use crate::classify::read_beside;
use crate::openai::ChatRequest;
use crate::policy::{Balance, HashKey, PoolSpec};
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
    // Engines keep what they generate from; of an embedding they keep nothing.
    let keeps_prompt = input.upstream_request.api().generates_text();
    if keeps_prompt
        && let Some(first) = targets.first()
        && snapshot.pool(first.route(policy).pool).reads_prompt()
    {
        read_beside(input.upstream_request.body().len(), || prompt.tokens());
    }
    let owner = input
        .request
        .previous_response()
        .and_then(|id| snapshot.upstreams.response_owners.get(hash_key(id.as_bytes()), input.now));
    let lease = |target: &PlanTarget, last_resort: bool| {
        let pool = target.route(policy).pool;
        let request = PickRequest {
            key: session_key(snapshot.pool_spec(pool), input),
            owner,
            model: target.upstream_model(policy),
            adapter: target.lora.as_deref(),
            prompt: keeps_prompt.then_some(&prompt),
        };
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
    first(false).or_else(|| if input.last_resort { first(true) } else { None })
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
        model: target.upstream_model(policy),
        adapter: target.lora.as_deref(),
        prompt: request.api().generates_text().then_some(&prompt),
    };
    (prompt.tokens(), snapshot.pool(target.route(policy).pool).forecast(&pick, now))
}

/// What the pool keeps requests together by, hashed; `None` where it does not, or the client sent none.
fn session_key(spec: &PoolSpec, input: LeaseInput<'_>) -> Option<u64> {
    match &spec.balance {
        Balance::Hash(HashKey::Header(name)) => Some(hash_key(input.headers.get(name)?.as_bytes())),
        Balance::Hash(HashKey::Field(name)) => Some(hash_key(input.request.field(name)?.as_bytes())),
        Balance::RoundRobin
        | Balance::LeastRequest
        | Balance::Auto
        | Balance::Scored(_)
        | Balance::External(_) => None,
    }
}
