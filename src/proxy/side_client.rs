//! Owns the way of a request beside a client's, such as a prefill, to its endpoint and of the answer back, bounded in bytes and ended by whoever waits.
//!
//! Decides nothing.

use super::attempt_failure::AttemptFailure;
use super::held_error::HeldError;
use super::upstream::{self, retry_after};
use crate::server_state::BufferShare;
use bytes::Bytes;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bytes of an answer that are read: the ids of a prompt's blocks, a hundred thousand in less than a megabyte.
const MAX_ANSWER: usize = 4 << 20;

/// The most connections kept from one to the next.
const MAX_IDLE: usize = 1024;

/// The most questions under way that no request waits for; others are left out.
const MAX_BACKGROUND: usize = 8;

/// Asks endpoints beside requests.
pub(super) struct SideClient {
    connector: Connector,
    /// Bounds the questions that no request waits for.
    pub(super) background: Arc<Semaphore>,
}

/// A request on its way to an endpoint.
pub(super) struct SideRequest {
    pub(super) peer: HttpPeer,
    pub(super) header: RequestHeader,
    pub(super) body: Bytes,
}

impl SideRequest {
    pub(super) fn without_body(peer: HttpPeer, header: RequestHeader) -> Self {
        Self { peer, header, body: Bytes::new() }
    }
}

/// A good answer.
pub(super) struct SideAnswer {
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
pub(super) enum SideError {
    /// The endpoint failed, or refused.
    Failed(AttemptFailure),
    /// Nobody waits any longer.
    Interrupted(Option<Box<Error>>),
    /// The answer is longer than any can be.
    TooLong,
    /// The limit on the bytes of all requests is reached.
    NoRoom,
}

/// Ends when nobody waits any longer.
pub(super) type Interruption<'a> = Pin<&'a mut (dyn Future<Output = Result<Option<Bytes>>> + Send + 'a)>;

impl SideClient {
    pub(super) fn new() -> Self {
        let connector = Connector::new(Some(ConnectorOptions::new(MAX_IDLE)));
        Self { connector, background: Arc::new(Semaphore::new(MAX_BACKGROUND)) }
    }

    /// Sends a prompt; a connection that had gone stale is replaced once. The answer's bytes count in `share`.
    pub(super) async fn send(
        &self,
        mut request: SideRequest,
        share: &mut BufferShare,
        mut interrupted: Interruption<'_>,
    ) -> Result<SideAnswer, SideError> {
        let first = self.send_once(&request, share, interrupted.as_mut()).await;
        match first {
            Err(SideError::Failed(failure)) if failure.is_of_connection() => {
                upstream::avoid_pooled_connections(&mut request.peer);
                self.send_once(&request, share, interrupted).await
            }
            other => other,
        }
    }

    async fn send_once(
        &self,
        request: &SideRequest,
        share: &mut BufferShare,
        mut interrupted: Interruption<'_>,
    ) -> Result<SideAnswer, SideError> {
        let SideRequest { peer, .. } = request;
        let connected = tokio::select! {
            biased;
            connected = self.connector.get_http_session(peer) => connected,
            why = interrupted.as_mut() => return Err(SideError::Interrupted(why.err())),
        };
        let (mut session, reused) = connected.map_err(|error| {
            let timed_out =
                matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
            SideError::Failed(AttemptFailure::Connect { timed_out })
        })?;
        let outcome = tokio::select! {
            biased;
            answer = exchange(&mut session, request, share) => answer.unwrap_or_else(|_error| {
                Err(SideError::Failed(AttemptFailure::Reset { reused, answer_begun: false }))
            }),
            why = interrupted => Err(SideError::Interrupted(why.err())),
        };
        if outcome.is_ok() {
            self.connector.release_http_session(session, peer, peer.options.idle_timeout).await;
            return outcome;
        }
        // The engine sees that nobody waits, and stops.
        session.shutdown().await;
        if matches!(session, HttpSession::H2(_)) {
            // The connector keeps what is not given back.
            self.connector.release_http_session(session, peer, Some(Duration::ZERO)).await;
        }
        outcome
    }
}

/// Sends the prompt and reads the answer.
async fn exchange(
    session: &mut HttpSession,
    request: &SideRequest,
    share: &mut BufferShare,
) -> Result<Result<SideAnswer, SideError>> {
    session.write_request_header(Box::new(request.header.clone())).await?;
    if !request.body.is_empty() {
        session.write_request_body(request.body.clone(), true).await?;
    }
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let Some(header) = session.response_header() else {
        return Error::e_explain(ErrorType::ReadError, "no header");
    };
    let (status, retry_after) = (header.status, retry_after(&header.headers));
    if !status.is_success() {
        let mut failure = AttemptFailure::Status { status, retry_after };
        if let Some(mut held) = HeldError::of(header, retry_after) {
            while let Some(piece) = session.read_response_body().await? {
                if held.take(&piece) {
                    break;
                }
            }
            failure = held.failure();
        }
        return Ok(Err(SideError::Failed(failure)));
    }
    let mut body = Vec::new();
    while let Some(piece) = session.read_response_body().await? {
        if body.len() + piece.len() > MAX_ANSWER {
            return Ok(Err(SideError::TooLong));
        }
        if share.grow_to(share.bytes() + piece.len()).is_err() {
            return Ok(Err(SideError::NoRoom));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Ok(SideAnswer { body }))
}
