//! Owns the operator's API: liveness, readiness and metrics, with the classify API on the same port.
//!
//! Answers from the live state; changes nothing but whether an engine sleeps.

use super::classify_api::EngineClient;
use super::gateway_api::{RoutesOrigin, RoutesState, SharedRoutesState};
use super::sources::{KubeSources, SourceState};
use crate::policy;
use crate::server_state::ServerState;
use crate::snapshot::Live;
use crate::telemetry::{LogStreams, Metrics, ProcessGauges, SourceGauges};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
pub use axum::serve::Listener as AdminListener;
use axum::{Json, Router};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a request may take, its body included.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// The state behind the operator's API.
#[derive(Clone)]
pub struct Admin {
    /// The live snapshot.
    pub live: Arc<Live>,
    /// Where clients connect.
    pub listeners: Arc<[SocketAddr]>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The requests in flight and whether the server drains.
    pub server_state: Arc<ServerState>,
    /// What the process prints.
    pub logs: LogStreams,
    /// Why the last reload changed nothing.
    pub fault: Arc<RwLock<Option<String>>>,
    /// What Kubernetes says of endpoints.
    pub kube: Arc<KubeSources>,
    /// What it says of routes, where those are followed.
    pub routes: Option<SharedRoutesState>,
    /// Asks engines for the operator.
    pub engines: EngineClient,
}

impl Admin {
    /// Serves until the port is handed over to a successor process.
    pub async fn serve(
        self,
        listener: impl AdminListener<Addr = SocketAddr>,
        handed_over: Arc<Notify>,
    ) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/healthz", get(healthz))
            .route("/livez", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .merge(super::classify_api::routes())
            .fallback(super::classify_api::no_such_path)
            .method_not_allowed_fallback(super::classify_api::no_such_method)
            .layer(middleware::from_fn(within_time))
            .with_state(self);
        let until = async move { handed_over.notified().await };
        axum::serve(listener, routes).with_graceful_shutdown(until).await
    }
}

/// Answers a request whose body does not come, or whose answer takes too long.
async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    policy_generation: u64,
    /// Why the file on disk is not the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_fault: Option<String>,
    /// What the policy in force may not do as expected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    pools: Vec<PoolState>,
    /// What Kubernetes says of endpoints, where the policy asks it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceState>,
    /// What it says of routes, where those are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<RoutesState>,
}

#[derive(Serialize)]
struct PoolState {
    name: String,
    endpoints: usize,
    available: usize,
}

/// Ready while a policy and its classifier are live, which they are once this port is served, and not draining.
///
/// An upstream that is down makes requests fail, not this process unready: it would take every replica out at once.
async fn readyz(State(admin): State<Admin>) -> Response {
    let live = admin.live.load();
    let now = std::time::Instant::now();
    let pools = live.policy.pools.iter().zip(&live.upstreams.pools).map(|(spec, pool)| PoolState {
        name: spec.name.clone(),
        endpoints: pool.members().len(),
        available: pool.available(now),
    });
    let draining = admin.server_state.is_draining();
    let routes =
        admin.routes.as_ref().map(|routes| routes.lock().unwrap_or_else(PoisonError::into_inner).clone());
    // Before any route is known every request would be answered with 404, which the other replicas need not share.
    let is_lost = routes.as_ref().is_some_and(|routes| routes.from == RoutesOrigin::Nowhere);
    let readiness = Readiness {
        ready: !draining && !is_lost,
        draining,
        policy_generation: live.generation,
        policy_fault: admin.fault.read().unwrap_or_else(PoisonError::into_inner).clone(),
        warnings: policy::warnings(&live.policy, &admin.listeners),
        pools: pools.collect(),
        sources: admin.kube.states(),
        routes,
    };
    let status = if draining || is_lost { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let process = ProcessGauges {
        in_flight: admin.server_state.in_flight(),
        buffered_bytes: admin.server_state.buffered(),
        connections: admin.server_state.connections.count(),
        refused: admin.server_state.connections.refusals(),
        dropped_lines: vec![
            ("access", admin.logs.access.dropped()),
            ("process", admin.logs.process.dropped()),
        ],
        sources: admin.kube.states().into_iter().map(gauges).collect(),
    };
    let text = admin.metrics.render(&admin.live.load(), &process);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn gauges(state: SourceState) -> SourceGauges {
    SourceGauges {
        source: state.source,
        endpoints: state.endpoints.unwrap_or_default(),
        is_current: state.endpoints.is_some() && state.fault.is_none(),
    }
}
