//! Owns the vLLM production stack's paths for engines, on the operator's port: which there are, whether they sleep, and
//! putting them to sleep and waking them.
//!
//! Here rather than where clients ask: they name addresses, and an engine that sleeps answers nobody. Only engines of pools
//! with `wake` are told anything, since only those may sleep.

use super::Admin;
use super::envelope::ApiError;
use crate::balance::Endpoint;
use crate::control::endpoint_client::{EndpointClient, GetLimits, PeerOf, peer, request};
use crate::openai::query_value;
use crate::policy::PoolSpec;
use crate::snapshot::Snapshot;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an engine may take: weights go to host memory and back meanwhile.
const ANSWER_TIME: Duration = Duration::from_secs(50);

/// The most bytes of an engine's answer.
const MAX_ANSWER: usize = 64 << 10;

/// The most questions to engines under way at once.
const MAX_CONCURRENT: usize = 16;

/// How engines are asked.
#[derive(Clone)]
pub struct EngineClient {
    peer_of: PeerOf,
    client: Arc<EndpointClient>,
}

impl EngineClient {
    /// Asks engines over connections as the proxy's.
    pub fn new(peer_of: PeerOf) -> Self {
        Self { peer_of, client: EndpointClient::new(MAX_CONCURRENT) }
    }
}

/// An engine, with the members that the production stack's router gives of it first.
#[derive(Serialize)]
pub(super) struct EngineDescription {
    /// Its address, which names it to the other paths.
    engine_id: SocketAddr,
    serving_models: Vec<String>,
    created: u64,
    pool: String,
    host: String,
    available: bool,
    in_flight: u32,
    asleep: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_cache_usage: Option<f32>,
}

/// Lists every endpoint.
pub(super) async fn engines(State(admin): State<Admin>) -> Json<Vec<EngineDescription>> {
    let live = admin.live.load();
    let now = Instant::now();
    Json(live.endpoints().map(|(pool, endpoint)| describe(&live, pool, endpoint, now)).collect())
}

fn describe(live: &Snapshot, pool: &PoolSpec, endpoint: &Endpoint, now: Instant) -> EngineDescription {
    let metrics = endpoint.engine_metrics().filter(|metrics| metrics.is_fresh(now));
    let figure = |read: fn(&crate::balance::EngineMetrics) -> Option<f32>| metrics.as_deref().and_then(read);
    EngineDescription {
        engine_id: endpoint.addr(),
        serving_models: live.models_of(&pool.name).map(str::to_owned).collect(),
        created: live.built_at,
        pool: pool.name.clone(),
        host: endpoint.host().to_string(),
        available: endpoint.is_up() && !endpoint.ejected(now),
        in_flight: endpoint.in_flight(),
        asleep: endpoint.is_asleep(),
        waiting: figure(|metrics| metrics.waiting),
        running: figure(|metrics| metrics.running),
        kv_cache_usage: figure(|metrics| metrics.kv_usage),
    }
}

#[derive(Serialize)]
pub(super) struct VersionResponse {
    version: &'static str,
}

/// The version of this process, as engines say theirs.
pub(super) async fn version() -> Json<VersionResponse> {
    Json(VersionResponse { version: env!("CARGO_PKG_VERSION") })
}

/// Which engine is asked.
struct EngineQuery {
    id: Option<String>,
    /// How deep it sleeps: 1 keeps its weights in host memory, 2 drops them.
    level: Option<String>,
}

impl EngineQuery {
    fn of(query: Option<&str>) -> Self {
        let value = |name| query.and_then(|query| query_value(query, name));
        Self { id: value("id"), level: value("level") }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SleepAnswer {
    is_sleeping: bool,
}

/// Asks an engine whether it sleeps, and goes by that.
pub(super) async fn is_sleeping(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Json<SleepAnswer>, ApiError> {
    let engine = Engine::find(&admin, &EngineQuery::of(query.as_deref()))?;
    let answer = engine.ask(&admin, Method::GET, "/is_sleeping").await?;
    let state: SleepAnswer = serde_json::from_slice(&answer).map_err(|_| {
        ApiError::new(StatusCode::BAD_GATEWAY, "ENGINE_ERROR", "the engine does not say whether it sleeps")
    })?;
    engine.endpoint.note_asleep(state.is_sleeping);
    Ok(Json(state))
}

/// Puts an engine to sleep; requests go elsewhere from then on.
pub(super) async fn sleep(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Json<SleepAnswer>, ApiError> {
    let query = EngineQuery::of(query.as_deref());
    let level = match query.level.as_deref() {
        None | Some("1") => 1,
        Some("2") => 2,
        Some(_) => return Err(ApiError::invalid("level must be 1 or 2")),
    };
    let engine = Engine::find(&admin, &query)?;
    engine.ask(&admin, Method::POST, &format!("/sleep?level={level}")).await?;
    engine.endpoint.note_asleep(true);
    Ok(Json(SleepAnswer { is_sleeping: true }))
}

/// Wakes an engine.
pub(super) async fn wake_up(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Json<SleepAnswer>, ApiError> {
    let engine = Engine::find(&admin, &EngineQuery::of(query.as_deref()))?;
    engine.ask(&admin, Method::POST, "/wake_up").await?;
    engine.endpoint.note_asleep(false);
    Ok(Json(SleepAnswer { is_sleeping: false }))
}

/// An engine that may be told to sleep.
struct Engine {
    pool: PoolSpec,
    endpoint: Arc<Endpoint>,
}

impl Engine {
    fn find(admin: &Admin, query: &EngineQuery) -> Result<Self, ApiError> {
        let id = query.id.as_deref().unwrap_or_default();
        let live = admin.live.load();
        let is_named =
            |endpoint: &Endpoint| endpoint.addr().to_string() == id || endpoint.host().as_ref() == id;
        let mut named = live.endpoints().filter(|(_, endpoint)| is_named(endpoint)).peekable();
        if named.peek().is_none() {
            let message = "no such engine: give ?id=, an engine_id of GET /engines";
            let status = if id.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
            return Err(ApiError::new(status, "NO_SUCH_ENGINE", message));
        }
        let found = named.find(|(pool, _)| pool.limits.wake.is_some());
        let (pool, endpoint) = found.ok_or_else(|| {
            let message = "the policy's pool of this engine has no `wake`, so that it may not sleep";
            ApiError::new(StatusCode::CONFLICT, "NOT_ALLOWED", message)
        })?;
        Ok(Self { pool: pool.clone(), endpoint: Arc::clone(endpoint) })
    }

    async fn ask(&self, admin: &Admin, method: Method, path: &str) -> Result<Vec<u8>, ApiError> {
        let failed = |why: String| ApiError::new(StatusCode::BAD_GATEWAY, "ENGINE_ERROR", why);
        let path = format!("{}{path}", self.pool.api.path_prefix);
        let mut header = request(&self.pool, &path, &self.endpoint)
            .ok_or_else(|| failed("the engine cannot be asked".to_owned()))?;
        if method == Method::POST {
            // Nothing follows.
            let _ = header.insert_header("content-length", "0");
        }
        header.set_method(method);
        let mut peer = peer(&admin.engines.peer_of, &self.pool, &self.endpoint, self.pool.timeouts.connect);
        let limits = GetLimits { time: ANSWER_TIME, bytes: MAX_ANSWER, statuses: &[200] };
        let mut answer = Vec::new();
        let asked = admin.engines.client.get(&mut peer, &header, limits, |piece| answer.extend(piece)).await;
        asked.map_err(|error| {
            failed(format!("the engine did not answer as it should: {}", error.etype().as_str()))
        })?;
        Ok(answer)
    }
}
