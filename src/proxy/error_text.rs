//! Owns what follows what was held of an answer: for an error whose text is read another attempt, or the answer itself for
//! the client; for the head of a stream its first byte.
//! Refuses to know what the text says.

use super::attempt_failure::NextStep;
use super::exchange::Exchange;
use super::held_error::HeldAnswer;
use super::{Gateway, respond};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

impl Gateway {
    /// Takes a piece of an answer that is held, and decides what follows once there is enough of it.
    pub(super) fn read_held(
        &self,
        session: &Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let held = match &mut exchange.held {
            None => return Ok(()),
            Some(HeldAnswer::Head(_)) => return release_head(body, is_last, exchange),
            Some(HeldAnswer::Error(held)) => held,
        };
        // An empty piece: nothing of it goes on yet.
        let piece = body.replace(Bytes::new()).unwrap_or_default();
        if !held.take(&piece) && !is_last {
            return Ok(());
        }
        let (status, failure) = (held.status(), held.failure());
        let next = exchange.next(failure, &session.req_header().headers, &self.metrics);
        let Some(HeldAnswer::Error(held)) = exchange.release_held() else { return Ok(()) };
        if next == NextStep::Retry {
            return Err(tried_elsewhere(status));
        }
        let (mut header, text) = held.into_parts();
        frame_for_client(&mut header)?;
        respond::prepare(&mut header, exchange)?;
        if let Some(replay) = &exchange.replay {
            replay.send_held(header);
        }
        *body = Some(text);
        Ok(())
    }
}

/// Sends the head of a stream with its first piece.
fn release_head(body: &mut Option<Bytes>, is_last: bool, exchange: &mut Exchange) -> Result<()> {
    // An empty piece: nothing of the answer goes on yet.
    let piece = body.replace(Bytes::new()).unwrap_or_default();
    if piece.is_empty() && !is_last {
        return Ok(());
    }
    let Some(HeldAnswer::Head(mut header)) = exchange.release_held() else { return Ok(()) };
    frame_for_client(&mut header)?;
    respond::prepare(&mut header, exchange)?;
    if let Some(replay) = &exchange.replay {
        replay.send_held(*header);
    }
    *body = Some(piece);
    Ok(())
}

/// Frames a header that was held as Pingora does the others: an upstream's HTTP/2 has no framing that HTTP/1.1 knows.
fn frame_for_client(header: &mut ResponseHeader) -> Result<()> {
    header.set_version(Version::HTTP_11);
    if !header.headers.contains_key(CONTENT_LENGTH) && !header.headers.contains_key(TRANSFER_ENCODING) {
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Has Pingora make the next attempt, whose endpoint is leased already.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed everywhere")]
pub(super) fn tried_elsewhere(status: StatusCode) -> Box<Error> {
    let mut error = Error::explain(ErrorType::HTTPStatus(status.as_u16()), "tried elsewhere");
    error.set_retry(true);
    error.into_up()
}
