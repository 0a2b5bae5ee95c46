//! Owns `/api/v1/pick`: which endpoint a chat completion would go to now, and how every other one of its pool stands.
//!
//! Nothing is sent and nothing is counted: the next request sees what it would have seen.

use super::envelope::ApiError;
use super::{Admin, deadline};
use crate::balance::{EndpointForecast, Standing};
use crate::openai::{Api, ChatRequest};
use crate::route::{PlanInput, PlanTarget, forecast, plan};
use crate::snapshot::Snapshot;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
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
    endpoints: Vec<EndpointStanding>,
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

/// Takes the body of a chat completion as the proxy takes it.
pub(super) async fn pick(State(admin): State<Admin>, body: Bytes) -> Result<Json<PickResponse>, ApiError> {
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
    let target = plan.targets.first().ok_or_else(refused)?;
    let request = plan.effects.as_ref().and_then(|effects| effects.request.as_ref()).unwrap_or(&request);
    Ok(Json(PickResponse::of(&live, target, request)))
}

impl PickResponse {
    fn of(live: &Snapshot, target: &PlanTarget, request: &ChatRequest) -> Self {
        let (prompt_tokens, forecasts) = forecast(live, target, request, Instant::now());
        let costs = forecasts.iter().filter_map(|one| one.standing).map(Standing::as_cost);
        let least = costs.fold(f64::INFINITY, f64::min);
        Self {
            model: live.policy[target.model].name.clone(),
            pool: live.pool_spec(target.route(&live.policy).pool).name.clone(),
            prompt_tokens,
            endpoints: forecasts.iter().map(|one| EndpointStanding::of(one, least)).collect(),
        }
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
