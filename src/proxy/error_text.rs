//! Owns what follows an error answer whose text had to be read: another attempt, or the answer itself for the client.
//! Refuses to know what the text says.

use super::attempt_failure::NextStep;
use super::exchange::Exchange;
use super::{Gateway, respond};
use bytes::Bytes;
use http::StatusCode;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

impl Gateway {
    /// Takes a piece of an error answer that is held, and decides what follows once it is whole.
    pub(super) fn read_held(
        &self,
        session: &Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(held) = &mut exchange.held else { return Ok(()) };
        // An empty piece: nothing of it goes on yet.
        let piece = body.replace(Bytes::new()).unwrap_or_default();
        if !held.take(&piece) && !is_last {
            return Ok(());
        }
        let (status, failure) = (held.status(), held.failure());
        let next = exchange.next(failure, &session.req_header().headers, &self.metrics);
        let Some(held) = exchange.release_held() else { return Ok(()) };
        if next == NextStep::Retry {
            return Err(tried_elsewhere(status));
        }
        let (mut header, text) = held.into_parts();
        respond::prepare(&mut header, exchange)?;
        if let Some(replay) = &exchange.replay {
            replay.send_held(header);
        }
        *body = Some(text);
        Ok(())
    }
}

/// Has Pingora make the next attempt, whose endpoint is leased already.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed everywhere")]
pub(super) fn tried_elsewhere(status: StatusCode) -> Box<Error> {
    let mut error = Error::explain(ErrorType::HTTPStatus(status.as_u16()), "tried elsewhere");
    error.set_retry(true);
    error.into_up()
}
