//! Owns active health checks: one task for each endpoint of a pool with checks, by Pingora's `HttpHealthCheck`.
//!
//! Only reports a check's outcome to its endpoint, which knows the thresholds.

use crate::balance::{Endpoint, HealthThresholds};
use crate::policy::{Health, HostRule, PoolSpec};
use crate::snapshot::{Live, Snapshot};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Makes the peer for an endpoint of a pool, the same for checks as for requests.
pub type PeerOf = Arc<dyn Fn(&PoolSpec, SocketAddr) -> HttpPeer + Send + Sync>;

/// Keeps one checking task for each live endpoint.
pub struct Prober {
    live: Arc<Live>,
    peer_of: PeerOf,
    running: HashMap<usize, Running>,
}

struct Running {
    pool: PoolSpec,
    endpoint: Arc<Endpoint>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// Makes a prober for the live snapshot.
    pub fn new(live: Arc<Live>, peer_of: PeerOf) -> Self {
        Self { live, peer_of, running: HashMap::new() }
    }

    /// Checks for ever, following each new snapshot.
    pub async fn run(mut self) {
        let mut changes = self.live.changes();
        loop {
            changes.mark_unchanged();
            let live = self.live.load();
            self.follow(&live);
            drop(live);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn follow(&mut self, live: &Snapshot) {
        let mut kept = HashMap::new();
        for (pool, endpoint) in live.endpoints() {
            let Some(health) = &pool.health else { continue };
            let key = Arc::as_ptr(endpoint) as usize;
            let running = self.running.remove(&key).filter(|running| running.pool == *pool);
            let running = running.unwrap_or_else(|| Running {
                pool: pool.clone(),
                endpoint: Arc::clone(endpoint),
                task: tokio::spawn(check_for_ever(
                    pool.clone(),
                    health.clone(),
                    Arc::clone(endpoint),
                    (self.peer_of)(pool, endpoint.addr()),
                )),
            });
            debug_assert!(Arc::ptr_eq(&running.endpoint, endpoint), "a task keeps its endpoint alive");
            kept.insert(key, running);
        }
        self.running = kept;
    }
}

async fn check_for_ever(pool: PoolSpec, health: Health, endpoint: Arc<Endpoint>, peer: HttpPeer) {
    let thresholds =
        HealthThresholds { healthy_after: health.healthy_after, unhealthy_after: health.unhealthy_after };
    let Some((check, backend)) = prepare(&pool, &health, &endpoint, peer) else {
        tracing::error!(pool = %pool.name, endpoint = %endpoint.addr(), "endpoint cannot be checked");
        return;
    };
    loop {
        let outcome = tokio::time::timeout(health.timeout, check.check(&backend)).await;
        let failure = match &outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some("no answer in time".to_owned()),
        };
        match endpoint.checked(failure.is_none(), &thresholds) {
            Some(true) => tracing::info!(pool = %pool.name, endpoint = %endpoint.addr(), "endpoint is up"),
            Some(false) => {
                let failure = failure.unwrap_or_default();
                tracing::warn!(pool = %pool.name, endpoint = %endpoint.addr(), failure, "endpoint is down");
            }
            None => {}
        }
        // A tenth of jitter keeps many endpoints, and many gateways, from being checked in step.
        let jitter = rand::random_range(0.95..1.05);
        tokio::time::sleep(health.interval.mul_f64(jitter)).await;
    }
}

fn prepare(
    pool: &PoolSpec,
    health: &Health,
    endpoint: &Endpoint,
    peer: HttpPeer,
) -> Option<(HttpHealthCheck, Backend)> {
    let host = match &pool.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => endpoint.host(),
    };
    let mut check = HttpHealthCheck::new("", false);
    check.peer_template = peer;
    let mut request = RequestHeader::build("GET", health.path.as_bytes(), Some(1)).ok()?;
    request.insert_header("host", host).ok()?;
    check.req = request;
    check.reuse_connection = true;
    check.peer_template.options.connection_timeout = Some(health.timeout);
    check.peer_template.options.total_connection_timeout = Some(health.timeout);
    check.peer_template.options.read_timeout = Some(health.timeout);
    let accepted = health.status.clone();
    check.validator = Some(Box::new(move |response| {
        let status = response.status.as_u16();
        if accepted.contains(&status) {
            return Ok(());
        }
        pingora::Error::e_explain(
            pingora::ErrorType::HTTPStatus(status),
            "not a status of a healthy endpoint",
        )
    }));
    Some((check, Backend::new(&endpoint.addr().to_string()).ok()?))
}
