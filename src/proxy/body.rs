//! Owns how a request's body comes in: whole, bounded in size, in time and in the sum over all clients.
//!
//! Knows nothing of JSON or upstreams.

use super::failure::RETRY_AFTER;
use super::replay;
use crate::openai::Rejection;
use crate::server_state::ActiveRequest;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::Error;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// How much of a refused upload is still read: a client that is sending would otherwise get a reset, not the answer.
const DRAIN_LIMIT: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// The limits of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) max_bytes: usize,
    pub(super) time: Duration,
}

/// Reads the whole body; `None` when the client has gone.
pub(super) async fn read(
    session: &mut ServerSession,
    limits: BodyLimits,
    held: &mut ActiveRequest,
) -> Option<Result<Bytes, Rejection>> {
    let too_large = Rejection::TooLarge { limit: limits.max_bytes };
    let announced = announced_length(session);
    if announced.is_some_and(|length| length > limits.max_bytes) {
        return Some(Err(too_large));
    }
    if session.get_header_bytes(EXPECT).eq_ignore_ascii_case(b"100-continue")
        && Box::pin(session.write_continue_response()).await.is_err()
    {
        return None;
    }
    let mut reading = pin!(read_chunks(session, limits.max_bytes, announced.unwrap_or(0), held));
    // Most bodies came with their header and need no timer.
    let outcome = match futures::poll!(reading.as_mut()) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => pingora_timeout::timeout(limits.time, reading)
            .await
            .unwrap_or(ReadOutcome::Refused(Rejection::SlowBody)),
    };
    match outcome {
        ReadOutcome::Whole(body) => match announced {
            Some(length) if length != body.len() => Some(Err(Rejection::BadFraming)),
            _ => Some(Ok(body)),
        },
        ReadOutcome::Refused(rejection) => Some(Err(rejection)),
        ReadOutcome::TooLarge => Some(Err(too_large)),
        ReadOutcome::ClientGone => None,
    }
}

/// Reads on for a bounded time after a refusal, so that a client that is still sending sees the answer.
pub(super) async fn drain(session: &mut ServerSession) {
    let reading = async {
        let mut seen = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            seen += chunk.len();
            if seen > DRAIN_LIMIT {
                break;
            }
        }
    };
    // Running out of time is one of the two expected ends.
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

enum ReadOutcome {
    Whole(Bytes),
    Refused(Rejection),
    TooLarge,
    ClientGone,
}

async fn read_chunks(
    session: &mut ServerSession,
    max_bytes: usize,
    announced: usize,
    held: &mut ActiveRequest,
) -> ReadOutcome {
    let overloaded = || ReadOutcome::Refused(Rejection::Overloaded { retry_after: RETRY_AFTER });
    let header = held.buffered.bytes();
    let mut arrived = 0;
    let mut is_awaited = false;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let mut reading = pin!(session.read_request_body());
        let read = match futures::poll!(reading.as_mut()) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                // Most bodies come with their header, and wait for nothing.
                if !is_awaited && held.receive().is_err() {
                    return overloaded();
                }
                is_awaited = true;
                reading.await
            }
        };
        let chunk = match read {
            Ok(Some(chunk)) => chunk,
            // Most bodies come in one chunk, which is not copied.
            Ok(None) if rest.is_empty() => return ReadOutcome::Whole(first),
            Ok(None) => return ReadOutcome::Whole(rest.freeze()),
            Err(error) if is_bad_framing(&error) => return ReadOutcome::Refused(Rejection::BadFraming),
            Err(_gone) => return ReadOutcome::ClientGone,
        };
        arrived += chunk.len();
        if arrived > max_bytes {
            return ReadOutcome::TooLarge;
        }
        // All that was announced, once some of it has come: of many that come at once, some are served whole, and who
        // announces much and sends nothing takes no room from the others.
        if held.buffered.grow_to(header + arrived.max(announced)).is_err() {
            return overloaded();
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.clamp(first.len() + chunk.len(), max_bytes));
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&chunk);
    }
}

fn announced_length(session: &ServerSession) -> Option<usize> {
    std::str::from_utf8(session.get_header_bytes(CONTENT_LENGTH)).ok()?.trim().parse().ok()
}

pub(super) fn is_bad_framing(error: &Error) -> bool {
    use pingora::ErrorType::{Custom, InvalidHTTPHeader};
    // The listener says so of what Pingora would take.
    let is_invalid = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
    matches!(error.etype(), InvalidHTTPHeader | Custom("InvalidChunk" | "InvalidTrailerEnd"))
        || error.root_cause().downcast_ref().is_some_and(is_invalid)
}

/// Whether the client, whose request has been read to its end, has closed its connection.
pub(super) async fn has_left(session: &mut Session) -> bool {
    let mut idle = pin!(session.as_downstream_mut().read_body_or_idle(true));
    // What ended the last attempt may still be said by the session that watched for it.
    let is_clients = |error: &Error| ![replay::LATE, replay::TAKEN_OUT, replay::SLOW].contains(error.etype());
    matches!(futures::poll!(idle.as_mut()), Poll::Ready(Err(error)) if is_clients(&error))
}
