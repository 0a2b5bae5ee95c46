//! Owns short GET requests to endpoints over connections that are kept, each bounded in time and bytes.
//! Refuses to know what they are for and which endpoints get them.

use crate::balance::Endpoint;
use crate::policy::{HostRule, PoolSpec};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Makes the peer for an endpoint of a pool, the same as for requests.
pub type PeerOf = Arc<dyn Fn(&PoolSpec, &Endpoint) -> HttpPeer + Send + Sync>;

/// The most connections kept from one request to the next.
const MAX_IDLE: usize = 2048;

/// What all requests of one kind share: the connector alone holds the system's root certificates.
pub(super) struct EndpointClient {
    connector: Connector,
    permits: Semaphore,
}

/// What bounds one request, and which answers are good ones.
#[derive(Clone, Copy)]
pub(super) struct GetLimits<'a> {
    /// For all of it, but for the wait until others are done.
    pub(super) time: Duration,
    /// Of the answer's body.
    pub(super) bytes: usize,
    pub(super) statuses: &'a [u16],
}

impl EndpointClient {
    /// Makes a client with so many requests under way at once; others wait for their turn.
    pub(super) fn new(max_concurrent: usize) -> Arc<Self> {
        let connector = Connector::new(Some(ConnectorOptions::new(MAX_IDLE)));
        Arc::new(Self { connector, permits: Semaphore::new(max_concurrent) })
    }

    /// Asks once, and hands on the body piece by piece; a connection that failed is not used again.
    pub(super) async fn get(
        &self,
        peer: &mut HttpPeer,
        request: &RequestHeader,
        limits: GetLimits<'_>,
        on_piece: impl FnMut(&[u8]),
    ) -> Result<()> {
        let late = || Error::explain(ErrorType::ReadTimedout, "no answer in time");
        let _permit = self.permits.acquire().await;
        let end = Instant::now() + limits.time;
        let connected = timeout_at(end, self.connector.get_http_session(peer)).await;
        let (mut session, _reused) = connected.map_err(|_elapsed| late())??;
        let answered = timeout_at(end, exchange(&mut session, request, limits, on_piece)).await;
        let outcome = answered.unwrap_or_else(|_elapsed| Err(late()));
        if outcome.is_ok() {
            self.connector.release_http_session(session, peer, peer.options.idle_timeout).await;
            return outcome;
        }
        session.shutdown().await;
        if matches!(session, HttpSession::H2(_)) {
            // The connector keeps what is not given back.
            self.connector.release_http_session(session, peer, Some(Duration::ZERO)).await;
        }
        peer.group_key = peer.group_key.wrapping_add(1);
        outcome
    }
}

async fn exchange(
    session: &mut HttpSession,
    request: &RequestHeader,
    limits: GetLimits<'_>,
    mut on_piece: impl FnMut(&[u8]),
) -> Result<()> {
    session.write_request_header(Box::new(request.clone())).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().map(|header| header.status.as_u16()).unwrap_or_default();
    if !limits.statuses.contains(&status) {
        return Error::e_explain(ErrorType::HTTPStatus(status), "not a status of a good answer");
    }
    let mut read = 0;
    while let Some(piece) = session.read_response_body().await? {
        read += piece.len();
        if read > limits.bytes {
            return Error::e_explain(ErrorType::ReadError, "the answer is too long");
        }
        on_piece(&piece);
    }
    Ok(())
}

/// The peer of an endpoint whose connections are made within `time`.
pub(super) fn peer(peer_of: &PeerOf, pool: &PoolSpec, endpoint: &Endpoint, time: Duration) -> HttpPeer {
    let mut peer = peer_of(pool, endpoint);
    peer.options.connection_timeout = Some(time);
    peer.options.total_connection_timeout = Some(time);
    peer.options.h2_ping_interval = None;
    peer
}

/// The request for a path of an endpoint, with its pool's Host; nothing where they make no request.
pub(super) fn request(pool: &PoolSpec, path: &str, endpoint: &Endpoint) -> Option<RequestHeader> {
    let host = match &pool.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => endpoint.host(),
    };
    let mut request = RequestHeader::build("GET", path.as_bytes(), Some(4)).ok()?;
    request.insert_header("host", host).ok()?;
    Some(request)
}
