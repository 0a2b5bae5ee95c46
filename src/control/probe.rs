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
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The most checks under way at once; the others wait for their turn.
const MAX_CONCURRENT: usize = 256;

/// The most bytes read of a check's answer.
const MAX_ANSWER: usize = 64 << 10;

/// What is asked of an endpoint that does not know the default path: every server of OpenAI's API has it.
const SUBSTITUTE_PATH: &str = "/v1/models";

/// What servers answer for a path that they do not have.
const NO_SUCH_PATH: [u16; 3] = [404, 405, 501];

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
            substitute: (health.path == Health::DEFAULT_PATH)
                .then(|| request(pool, SUBSTITUTE_PATH, endpoint))
                .flatten(),
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
    /// The request to try where the endpoint does not have the first one's path.
    substitute: Option<RequestHeader>,
}

impl EndpointCheck {
    async fn run(mut self, client: Arc<EndpointClient>) {
        let interval = self.health.interval;
        let Some(mut request) = self.request.take() else {
            let (pool, address) = (&self.pool.name, self.endpoint.addr());
            tracing::error!(%pool, endpoint = %address, "endpoint cannot be checked");
            return;
        };
        loop {
            let failure = self.ask(&client, &mut request).await.err();
            let (pool, address) = (self.pool.name.as_str(), self.endpoint.addr());
            match self.endpoint.checked(failure.is_none(), &self.health) {
                Some(true) => tracing::info!(%pool, endpoint = %address, "endpoint is up"),
                Some(false) => {
                    let failure = failure.map(|error| self.told(&error, &request)).unwrap_or_default();
                    tracing::warn!(%pool, endpoint = %address, failure, "endpoint is down");
                }
                None => {}
            }
            // A tenth of jitter keeps many endpoints, and many gateways, from being checked in step.
            let jitter = rand::random_range(0.95..1.05);
            tokio::time::sleep(interval.mul_f64(jitter)).await;
        }
    }

    /// Asks once, and goes over to the substitute for good where the path isn't there and the substitute's is.
    async fn ask(&mut self, client: &EndpointClient, request: &mut RequestHeader) -> Result<()> {
        let Health { timeout, ref status, .. } = self.health;
        let limits = GetLimits { time: timeout, bytes: MAX_ANSWER, statuses: status };
        let outcome = client.get(&mut self.peer, request, limits, |_body| {}).await;
        let is_missing = outcome.as_ref().is_err_and(
            |error| matches!(error.etype, ErrorType::HTTPStatus(status) if NO_SUCH_PATH.contains(&status)),
        );
        if let Some(substitute) = self.substitute.as_ref().filter(|_| is_missing)
            && client.get(&mut self.peer, substitute, limits, |_body| {}).await.is_ok()
        {
            let (pool, address) = (self.pool.name.as_str(), self.endpoint.addr());
            let (missing, path) = (Health::DEFAULT_PATH, SUBSTITUTE_PATH);
            tracing::info!(%pool, endpoint = %address, missing, path, "endpoint is checked by another path");
            request.clone_from(substitute);
            self.substitute = None;
            return Ok(());
        }
        outcome
    }

    /// Says what was asked, what came, and which key of the policy would change it.
    fn told(&self, error: &Error, request: &RequestHeader) -> String {
        let path = request.uri.path();
        match error.etype {
            ErrorType::HTTPStatus(status) => format!(
                "GET {path} answered {status}, and `pools.{}.health` has `status: {:?}`",
                self.pool.name, self.health.status
            ),
            _ => format!("GET {path}: {error}"),
        }
    }
}
