//! Owns active health checks: one task for each endpoint of a pool with checks, all over one connector.
//!
//! Only reports a check's outcome to its endpoint, which knows the thresholds.

use crate::balance::{Endpoint, HealthThresholds};
use crate::policy::{Health, HostRule, PoolSpec};
use crate::snapshot::{Live, Snapshot};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Makes the peer for an endpoint of a pool, the same for checks as for requests.
pub type PeerOf = Arc<dyn Fn(&PoolSpec, SocketAddr) -> HttpPeer + Send + Sync>;

/// The most checks under way at once; the others wait for their turn.
const MAX_CONCURRENT: usize = 256;

/// The most connections kept from one check to the next.
const MAX_IDLE: usize = 2048;

/// The most bytes read of a check's answer.
const MAX_ANSWER: usize = 64 << 10;

/// Keeps one checking task for each live endpoint.
pub struct Prober {
    live: Arc<Live>,
    peer_of: PeerOf,
    client: Arc<CheckClient>,
    running: HashMap<usize, Running>,
}

/// What all checks share: the connector alone holds the system's root certificates.
struct CheckClient {
    connector: Connector,
    permits: Semaphore,
}

struct Running {
    pool: Arc<PoolSpec>,
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
        let connector = Connector::new(Some(ConnectorOptions::new(MAX_IDLE)));
        let client = Arc::new(CheckClient { connector, permits: Semaphore::new(MAX_CONCURRENT) });
        Self { live, peer_of, client, running: HashMap::new() }
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
        // One copy of a pool's description for all its endpoints, of which there may be hundreds.
        let mut current: Option<Arc<PoolSpec>> = None;
        for (pool, endpoint) in live.endpoints() {
            let Some(health) = &pool.health else { continue };
            let shared = current.take().filter(|shared| **shared == *pool);
            let shared = current.insert(shared.unwrap_or_else(|| Arc::new(pool.clone())));
            let key = Arc::as_ptr(endpoint) as usize;
            let running = self.running.remove(&key).filter(|running| *running.pool == *pool);
            let running = running.unwrap_or_else(|| Running {
                pool: Arc::clone(shared),
                endpoint: Arc::clone(endpoint),
                task: self.start(shared, health, endpoint),
            });
            debug_assert!(Arc::ptr_eq(&running.endpoint, endpoint), "a task keeps its endpoint alive");
            kept.insert(key, running);
        }
        self.running = kept;
    }

    fn start(&self, pool: &Arc<PoolSpec>, health: &Health, endpoint: &Arc<Endpoint>) -> JoinHandle<()> {
        let mut peer = (self.peer_of)(pool, endpoint.addr());
        for timeout in [&mut peer.options.connection_timeout, &mut peer.options.total_connection_timeout] {
            *timeout = Some(health.timeout);
        }
        peer.options.h2_ping_interval = None;
        let check = EndpointCheck {
            request: request(pool, health, endpoint),
            pool: Arc::clone(pool),
            health: health.clone(),
            endpoint: Arc::clone(endpoint),
            peer,
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
    async fn run(mut self, client: Arc<CheckClient>) {
        let thresholds = HealthThresholds {
            healthy_after: self.health.healthy_after,
            unhealthy_after: self.health.unhealthy_after,
        };
        let (pool, address) = (self.pool.name.clone(), self.endpoint.addr());
        let Some(request) = self.request.take() else {
            tracing::error!(%pool, endpoint = %address, "endpoint cannot be checked");
            return;
        };
        loop {
            let permit = client.permits.acquire().await;
            let failure = self.check(&client.connector, &request).await.err();
            drop(permit);
            match self.endpoint.checked(failure.is_none(), &thresholds) {
                Some(true) => tracing::info!(%pool, endpoint = %address, "endpoint is up"),
                Some(false) => {
                    let failure = failure.map(|error| error.to_string()).unwrap_or_default();
                    tracing::warn!(%pool, endpoint = %address, failure, "endpoint is down");
                }
                None => {}
            }
            // A tenth of jitter keeps many endpoints, and many gateways, from being checked in step.
            let jitter = rand::random_range(0.95..1.05);
            tokio::time::sleep(self.health.interval.mul_f64(jitter)).await;
        }
    }

    /// Checks once; a connection that failed is not used again.
    async fn check(&mut self, connector: &Connector, request: &RequestHeader) -> Result<()> {
        let late = || Error::explain(ErrorType::ReadTimedout, "no answer in time");
        let end = tokio::time::Instant::now() + self.health.timeout;
        let connected = tokio::time::timeout_at(end, connector.get_http_session(&self.peer)).await;
        let (mut session, _reused) = connected.map_err(|_elapsed| late())??;
        let answered = tokio::time::timeout_at(end, self.ask(&mut session, request)).await;
        let outcome = answered.unwrap_or_else(|_elapsed| Err(late()));
        if outcome.is_ok() {
            connector.release_http_session(session, &self.peer, self.peer.options.idle_timeout).await;
            return outcome;
        }
        session.shutdown().await;
        if matches!(session, HttpSession::H2(_)) {
            // The connector keeps what is not given back.
            connector.release_http_session(session, &self.peer, Some(Duration::ZERO)).await;
        }
        self.peer.group_key = self.peer.group_key.wrapping_add(1);
        outcome
    }

    async fn ask(&self, session: &mut HttpSession, request: &RequestHeader) -> Result<()> {
        session.write_request_header(Box::new(request.clone())).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map(|header| header.status.as_u16()).unwrap_or_default();
        if !self.health.status.contains(&status) {
            return Error::e_explain(ErrorType::HTTPStatus(status), "not a status of a healthy endpoint");
        }
        let mut read = 0;
        while let Some(piece) = session.read_response_body().await? {
            read += piece.len();
            if read > MAX_ANSWER {
                return Error::e_explain(ErrorType::ReadError, "the answer is too long");
            }
        }
        Ok(())
    }
}

fn request(pool: &PoolSpec, health: &Health, endpoint: &Endpoint) -> Option<RequestHeader> {
    let host = match &pool.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => endpoint.host(),
    };
    let mut request = RequestHeader::build("GET", health.path.as_bytes(), Some(1)).ok()?;
    request.insert_header("host", host).ok()?;
    Some(request)
}
