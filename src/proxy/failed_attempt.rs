//! Owns what an error that Pingora reports of an attempt comes to: another attempt, or the end of the request.
//!
//! Decides nothing: the attempts do.

use super::attempt_failure::{AttemptFailure, NextStep};
use super::exchange::Exchange;
use super::failure::RequestFailure;
use super::upstream_error::failure_of;
use super::{Gateway, plain_phases, replay, upstream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

impl Gateway {
    /// Has Pingora make another attempt for an error marked as retried, and call `fail_to_proxy` for any other.
    #[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed everywhere")]
    pub(super) fn after_failure(
        &self,
        failure: AttemptFailure,
        session: &Session,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let next = match &exchange.passthrough {
            Some(_) => self.next_plain(session, exchange, failure),
            None => exchange.next(failure, &session.req_header().headers, &self.metrics),
        };
        match next {
            NextStep::Retry | NextStep::Reconnect => error.set_retry(true),
            NextStep::ForwardAnswer => error.set_retry(false),
            NextStep::GiveUp(rejection) => return RequestFailure::wrap(rejection, error),
        }
        error
    }

    /// Says what follows an error between the connection and the last byte.
    #[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed everywhere")]
    pub(super) fn attempt_failed(
        &self,
        peer: &HttpPeer,
        session: &Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        let is_decided = matches!(error.etype(), ErrorType::HTTPStatus(_)) && error.retry();
        if is_decided || RequestFailure::of(&error).is_some() {
            // By `upstream_response_filter`, which has leased the next endpoint, or by `upstream_request_filter`.
            return error;
        }
        // Pingora marks some errors as retried by rules of its own.
        error.set_retry(false);
        if *error.etype() == replay::CUT || exchange.has_passed_end() {
            return error;
        }
        let rejection = exchange.passthrough.as_ref().and_then(|_| plain_phases::fault_of_client(&error));
        if let Some(rejection) = rejection {
            return RequestFailure::wrap(rejection, error);
        }
        let Some(failure) = failure_of(&error, session, exchange, reused) else { return error };
        if let Some(attempts) = exchange.attempts.as_ref().filter(|_| upstream::may_be_h2(peer)) {
            attempts.retire_connections(failure);
        }
        self.after_failure(failure, session, exchange, error)
    }
}
