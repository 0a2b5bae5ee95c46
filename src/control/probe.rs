//! Owns active health checks: one task for each endpoint of a pool with checks, all over one connector.
//!
//! Only reports a check's outcome to its endpoint, which knows the thresholds.

use super::endpoint_client::{EndpointClient, GetLimits, PeerOf, peer, request};
use super::endpoint_tasks::{EndpointTask, EndpointTasks};
use crate::balance::Endpoint;
use crate::policy::{Health, PoolSpec};
use crate::snapshot::Live;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The most checks under way at once; the others wait for their turn.
const MAX_CONCURRENT: usize = 256;

/// The most bytes read of a check's answer.
const MAX_ANSWER: usize = 64 << 10;

/// Keeps one checking task for each live endpoint.
pub struct Prober {
    live: Arc<Live>,
    checks: HealthChecks,
}

struct HealthChecks {
    peer_of: PeerOf,
    client: Arc<EndpointClient>,
}

impl Prober {
    /// Makes a prober for the live snapshot.
    pub fn new(live: Arc<Live>, peer_of: PeerOf) -> Self {
        Self { live, checks: HealthChecks { peer_of, client: EndpointClient::new(MAX_CONCURRENT) } }
    }

    /// Checks for ever, following each new snapshot.
    pub async fn run(self) {
        EndpointTasks::new(self.checks).follow(self.live).await;
    }
}

impl EndpointTask for HealthChecks {
    fn holds_for(&self, pool: &PoolSpec, _endpoints: usize) -> bool {
        pool.probes.health.is_some()
    }

    fn start(&self, pool: &Arc<PoolSpec>, endpoint: &Arc<Endpoint>) -> JoinHandle<()> {
        let health = pool.probes.health.clone().unwrap_or_default();
        let check = EndpointCheck {
            request: request(pool, &health.path, endpoint),
            peer: peer(&self.peer_of, pool, endpoint, health.timeout),
            pool: Arc::clone(pool),
            health,
            endpoint: Arc::clone(endpoint),
        };
        tokio::spawn(check.run(Arc::clone(&self.client)))
    }
}

/// The check of one endpoint.
struct EndpointCheck {
    pool: Arc<PoolSpec>,
    health: Health,
    endpoint: Arc<Endpoint>,
    peer: HttpPeer,
    request: Option<RequestHeader>,
}

impl EndpointCheck {
    async fn run(mut self, client: Arc<EndpointClient>) {
        let Health { timeout, interval, ref status, .. } = self.health;
        let (pool, address) = (self.pool.name.as_str(), self.endpoint.addr());
        let Some(request) = self.request else {
            tracing::error!(%pool, endpoint = %address, "endpoint cannot be checked");
            return;
        };
        let limits = GetLimits { time: timeout, bytes: MAX_ANSWER, statuses: status };
        loop {
            let failure = client.get(&mut self.peer, &request, limits, |_body| {}).await.err();
            match self.endpoint.checked(failure.is_none(), &self.health) {
                Some(true) => tracing::info!(%pool, endpoint = %address, "endpoint is up"),
                Some(false) => {
                    let failure = failure.map(|error| error.to_string()).unwrap_or_default();
                    tracing::warn!(%pool, endpoint = %address, failure, "endpoint is down");
                }
                None => {}
            }
            // A tenth of jitter keeps many endpoints, and many gateways, from being checked in step.
            let jitter = rand::random_range(0.95..1.05);
            tokio::time::sleep(interval.mul_f64(jitter)).await;
        }
    }
}
