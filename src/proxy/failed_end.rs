//! Owns the end of an exchange that failed: what its client is told, in HTTP or in a stream that has begun, if it is there.
//!
//! Decides nothing about other attempts: there is none any more.

use super::exchange::Exchange;
use super::failure::{RETRY_AFTER, RequestFailure};
use super::tunnel::Tunnel;
use super::{Gateway, body, replay, respond};
use crate::openai::Rejection;
use bytes::Bytes;
use pingora::{Error, ErrorSource};
use pingora_proxy::{FailToProxy, Session};

impl Gateway {
    /// Tells the client why its request is not served, or not to its end.
    pub(super) async fn end_failed(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        if let Some(replay) = &mut exchange.replay {
            replay.uninstall(session);
        }
        if *error.etype() == replay::CUT {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let failure = RequestFailure::of(error);
        if failure.is_none() && exchange.has_passed_end() {
            // The client has the whole stream: SDKs leave right after its last event, and upstreams may break off there.
            let _ = session.as_downstream_mut().write_response_body(Bytes::new(), true).await;
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let is_of_client = failure.is_none() && *error.esource() == ErrorSource::Downstream;
        // The client is there: the process has told its connections that its time is over.
        let is_over = is_of_client && self.server_state.is_over();
        let was_silent = exchange.answer.tunnel.as_ref().is_some_and(Tunnel::was_silent);
        // Some of what Pingora waits for it waits for blindly: the client may have left long ago.
        let has_left = is_of_client
            || (exchange.attempts.is_some() && !exchange.is_tunnel() && body::has_left(session).await);
        if has_left && !is_over && !was_silent {
            exchange.record_client_gone();
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let rejection = match failure {
            Some(failure) => failure.rejection.clone(),
            None if was_silent => Rejection::UpstreamTimeout,
            None if is_over => Rejection::ShuttingDown { retry_after: RETRY_AFTER },
            None => Rejection::Internal,
        };
        let error_code = rejection.status().as_u16();
        let error = failure.and_then(RequestFailure::reported).unwrap_or(error);
        tracing::warn!(request_id = %exchange.record.request_id, code = rejection.reason(), %error, "request failed");
        if exchange.is_tunnel() {
            exchange.record_rejection(&rejection);
            return FailToProxy { error_code, can_reuse_downstream: false };
        }
        let downstream = session.as_downstream_mut();
        let begun = downstream.response_written().is_some_and(|written| !written.status.is_informational());
        if begun {
            if exchange.answer.is_stream {
                respond::end_stream_with_error(downstream, exchange, &rejection).await;
            }
            exchange.record_rejection(&rejection);
        } else {
            downstream.set_keepalive(None);
            if respond::reject(downstream, exchange, rejection).await.is_err() {
                exchange.record_client_gone();
            }
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }
}
