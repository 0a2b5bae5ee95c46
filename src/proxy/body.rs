//! Owns how a request's body comes in: whole, bounded in size, in time and in the sum over all clients.
//!
//! Knows nothing of JSON or upstreams.

use super::exchange::RETRY_AFTER;
use crate::openai::Rejection;
use crate::vitals::{BuffersFull, InFlight};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::protocols::http::ServerSession;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The most that an answer to a refused upload waits for the rest of it, so that the client reads the answer.
const DRAIN_LIMIT: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// What one body may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_bytes: usize,
    pub(super) time: Duration,
}

/// Reads the whole body; `None` when the client has gone.
pub(super) async fn read(
    session: &mut ServerSession,
    limits: Limits,
    held: &mut InFlight,
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
    let mut gathering = pin!(gather(session, limits.max_bytes, held));
    // Most bodies came with their header: no timer for these.
    let gathered = match futures::poll!(gathering.as_mut()) {
        Poll::Ready(gathered) => gathered,
        Poll::Pending => pingora_timeout::timeout(limits.time, gathering)
            .await
            .unwrap_or(Gathered::Refused(Rejection::SlowBody)),
    };
    match gathered {
        Gathered::Whole(body) => match announced {
            Some(length) if length != body.len() => Some(Err(Rejection::BadFraming)),
            _ => Some(Ok(body)),
        },
        Gathered::Refused(rejection) => Some(Err(rejection)),
        Gathered::TooLarge => Some(Err(too_large)),
        Gathered::Gone => None,
    }
}

/// Reads on for a bounded while after a refusal, so that a client that is still sending sees the answer.
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

enum Gathered {
    Whole(Bytes),
    Refused(Rejection),
    TooLarge,
    Gone,
}

async fn gather(session: &mut ServerSession, max_bytes: usize, held: &mut InFlight) -> Gathered {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let chunk = match session.read_request_body().await {
            Ok(Some(chunk)) => chunk,
            // Most bodies come in one chunk, which is not copied.
            Ok(None) if rest.is_empty() => return Gathered::Whole(first),
            Ok(None) => return Gathered::Whole(rest.freeze()),
            Err(error) if is_bad_framing(&error) => return Gathered::Refused(Rejection::BadFraming),
            Err(_gone) => return Gathered::Gone,
        };
        if held.bytes() + chunk.len() > max_bytes {
            return Gathered::TooLarge;
        }
        if let Err(BuffersFull) = held.hold(chunk.len()) {
            return Gathered::Refused(Rejection::Overloaded { retry_after: RETRY_AFTER });
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced_length(session).unwrap_or(0).clamp(first.len() + chunk.len(), max_bytes));
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&chunk);
    }
}

fn announced_length(session: &ServerSession) -> Option<usize> {
    std::str::from_utf8(session.get_header_bytes(CONTENT_LENGTH)).ok()?.trim().parse().ok()
}

fn is_bad_framing(error: &pingora::Error) -> bool {
    use pingora::ErrorType::{Custom, InvalidHTTPHeader};
    matches!(error.etype(), InvalidHTTPHeader | Custom("InvalidChunk" | "InvalidTrailerEnd"))
}
