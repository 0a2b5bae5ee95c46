//! Owns `/api/v1/pick`: which endpoint a chat completion would go to now, how every other one of its pool stands, and what
//! the pool's gate would do.
//!
//! Nothing is sent and nothing is counted: the next request sees what it would have seen.

use super::envelope::ApiError;
use super::{Admin, deadline};
use crate::balance::{AdmissionForecast, EndpointForecast, Standing, hash_key};
use crate::openai::{Api, ChatRequest, ShedReason};
use crate::policy::PriorityInput;
use crate::route::{
    FAIRNESS_HEADERS, GateInput, GatedTarget, OBJECTIVE_HEADERS, PlanInput, PlanTarget, find_gate, forecast,
    plan, sent_header,
};
use crate::snapshot::Snapshot;
use crate::telemetry::millis;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Instant;

/// The pool that a request would go to.
#[derive(Serialize)]
pub(super) struct PickResponse {
    model: String,
    pool: String,
    /// Tokens of the prompt, at four bytes a token.
    prompt_tokens: u32,
    /// What its gate would do; nothing without `admission`.
    #[serde(skip_serializing_if = "Option::is_none")]
    admission: Option<AdmissionStanding>,
    endpoints: Vec<EndpointStanding>,
}

/// What a pool's gate would do with the request.
#[derive(Serialize)]
struct AdmissionStanding {
    /// `pass`, `wait`, or why it would be refused.
    outcome: &'static str,
    /// The band that it is in.
    priority: i32,
    /// Wholly from 1 on.
    saturation: f64,
    /// Requests that would go before it.
    ahead: usize,
    /// Requests of the same fairness id that wait in the same band.
    of_tenant: usize,
    /// How many wait in each band, the highest first.
    queued: Vec<QueuedBand>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_wait_ms: Option<f64>,
}

/// The requests that wait with one priority.
#[derive(Serialize)]
struct QueuedBand {
    priority: i32,
    requests: usize,
}

/// How one endpoint stands.
#[derive(Serialize)]
struct EndpointStanding {
    endpoint: SocketAddr,
    host: String,
    available: bool,
    /// Whether it has the least cost or the highest score; of equals chance chooses one.
    best: bool,
    in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncached_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_cache_usage: Option<f64>,
    /// In tokens to compute; the least is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    /// The sum of its weighted scores; the highest is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

/// Takes the body of a chat completion as the proxy takes it, with the headers that name its objective and its fairness id:
/// whoever asks here may name any.
pub(super) async fn pick(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<PickResponse>, ApiError> {
    let request =
        ChatRequest::of(Api::Chat, body).map_err(|rejection| ApiError::invalid(rejection.to_string()))?;
    let live = admin.live.load();
    let input = PlanInput {
        api: Api::Chat,
        request: &request,
        principal: None,
        sent: &[],
        deadline: deadline(&live, 1),
        dry_run: true,
    };
    let refused =
        || ApiError::new(StatusCode::CONFLICT, "NOT_FORWARDED", "the policy forwards no such request");
    let plan = plan(&live, input).await.outcome.map_err(|_| refused())?;
    let objective = sent_header(&headers, OBJECTIVE_HEADERS);
    let gate_input = GateInput {
        client: PriorityInput { objective: objective.as_deref(), ..PriorityInput::default() },
        tenant: hash_key(sent_header(&headers, FAIRNESS_HEADERS).unwrap_or_default().as_bytes()),
        bytes: request.body().len(),
    };
    let gated = find_gate(&live, &plan, gate_input, Instant::now());
    let target = plan.targets.get(gated.map_or(0, |gated| gated.place)).ok_or_else(refused)?;
    let request = plan.effects.as_ref().and_then(|effects| effects.request.as_ref()).unwrap_or(&request);
    let response = PickResponse::of(&live, target, request);
    let admission = gated.and_then(|gated| AdmissionStanding::of(&live, gated));
    Ok(Json(PickResponse { admission, ..response }))
}

impl PickResponse {
    fn of(live: &Snapshot, target: &PlanTarget, request: &ChatRequest) -> Self {
        let (prompt_tokens, forecasts) = forecast(live, target, request, Instant::now());
        let costs = forecasts.iter().filter_map(|one| one.standing).map(Standing::as_cost);
        let least = costs.fold(f64::INFINITY, f64::min);
        Self {
            model: live.policy[target.model].name.clone(),
            pool: live.pool_spec(target.pool(&live.policy)).name.clone(),
            prompt_tokens,
            admission: None,
            endpoints: forecasts.iter().map(|one| EndpointStanding::of(one, least)).collect(),
        }
    }
}

impl AdmissionStanding {
    fn of(live: &Snapshot, gated: GatedTarget<'_>) -> Option<Self> {
        let limits = &live.policy.admission.as_ref()?.queue;
        let AdmissionForecast { saturation, refusal, waits, ahead, of_tenant, queued, expected_wait } =
            gated.gate?.forecast(gated.request, limits, Instant::now());
        Some(Self {
            outcome: match refusal {
                Some(refusal) => ShedReason::from(refusal).as_str(),
                None if waits => "wait",
                None => "pass",
            },
            priority: gated.request.priority,
            saturation,
            ahead,
            of_tenant,
            queued: queued
                .into_iter()
                .map(|(priority, requests)| QueuedBand { priority, requests })
                .collect(),
            expected_wait_ms: expected_wait.map(millis),
        })
    }
}

impl EndpointStanding {
    fn of(forecast: &EndpointForecast, least: f64) -> Self {
        let EndpointForecast { endpoint, is_available, uncached, load, standing } = forecast;
        let reported = load.filter(|load| load.is_reported);
        Self {
            endpoint: endpoint.addr(),
            host: endpoint.host().to_string(),
            available: *is_available,
            best: standing.is_some_and(|standing| standing.as_cost() <= least),
            in_flight: endpoint.in_flight(),
            uncached_tokens: *uncached,
            waiting: reported.map(|load| load.waiting),
            running: reported.map(|load| load.running),
            kv_cache_usage: reported.map(|load| load.kv_usage),
            cost: standing.and_then(|standing| match standing {
                Standing::Cost(cost) => Some(cost),
                Standing::Score(_) => None,
            }),
            score: standing.and_then(|standing| match standing {
                Standing::Cost(_) => None,
                Standing::Score(score) => Some(score),
            }),
        }
    }
}
