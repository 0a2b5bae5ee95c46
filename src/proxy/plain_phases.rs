//! Owns what each of Pingora's phases does with a request that passes unread.
//!
//! Decides nothing: where it goes its route says, and what follows a failure its attempts.

use super::admit::ShortCircuit;
use super::attempt_failure::{AttemptFailure, NextStep};
use super::exchange::Exchange;
use super::failure::{RETRY_AFTER, RequestFailure};
use super::passthrough::{Passthrough, PlainCopy, PlainFailure, is_picked};
use super::plain_copies::send_copies;
use super::{Gateway, body, respond, routing, upstream, websocket};
use crate::balance::Endpoint;
use crate::openai::Rejection;
use crate::telemetry::UpstreamRecord;
use bytes::Bytes;
use http::Method;
use http::header::EXPECT;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Instant;

/// How much of a request is kept so that it can be sent again: Pingora's buffer for that.
const REPLAYED: usize = 64 << 10;

impl Gateway {
    /// Takes a request of no inference API up to its first endpoint, where a route has one for it.
    pub(super) async fn admit_plainly(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        keeps_slots: bool,
    ) -> Result<Bytes, ShortCircuit> {
        let header = session.req_header();
        let path = header.uri.path();
        // A server could read such a path as another; and a tunnel is no request.
        if !header.raw_path_is_utf8() || !path.starts_with('/') || header.method == Method::CONNECT {
            return Err(Rejection::UnknownPath { path: path.to_owned() }.into());
        }
        let is_websocket = websocket::is_asked_for(header);
        let has_body = !is_websocket && !session.as_downstream_mut().is_body_empty();
        // What is said over a WebSocket is as unread as a body.
        let targets =
            routing::follow_plain(self.ports.as_deref(), session, exchange, has_body || is_websocket)?;
        let overloaded = Rejection::Overloaded { retry_after: RETRY_AFTER };
        let picked = is_picked(&exchange.live, &targets);
        let whole = if picked { self.read_for_picker(session, exchange).await? } else { Bytes::new() };
        let held = exchange.active.buffered.bytes() + if has_body && !picked { REPLAYED } else { 0 };
        exchange.active.buffered.grow_to(held).map_err(|_full| overloaded.clone())?;
        exchange.take_slot(keeps_slots).map_err(|_full| overloaded)?;
        let header = session.req_header();
        let pass = Passthrough::start(&exchange.live, targets, &header.method, Instant::now())?;
        exchange.passthrough = Some(Box::new(pass));
        if picked {
            self.pick_plainly(session, exchange, whole).await?;
        }
        if is_websocket {
            self.start_plain_websocket(session, exchange)?;
        }
        self.plan_copy(exchange, session.req_header(), has_body);
        let idle = exchange.passthrough.as_ref().map(|pass| pass.spec(&exchange.live).timeouts.idle);
        let downstream = session.as_downstream_mut();
        downstream.set_read_timeout(idle);
        if has_body
            && !picked
            && downstream.get_header_bytes(EXPECT).eq_ignore_ascii_case(b"100-continue")
            && downstream.write_continue_response().await.is_err()
        {
            return Err(ShortCircuit::ClientGone);
        }
        Ok(Bytes::new())
    }

    /// Has mirrors get copies: at once, where there is nothing to wait for.
    fn plan_copy(&self, exchange: &mut Exchange, header: &RequestHeader, has_body: bool) {
        let Some(pass) = exchange.passthrough.as_mut().filter(|_| exchange.answer.tunnel.is_none()) else {
            return;
        };
        pass.copy = PlainCopy::plan(&exchange.live, pass.via()).map(Box::new);
        if !has_body {
            send_copies(self, exchange, header);
        }
    }

    /// Makes the peer of the current attempt.
    pub(super) async fn plain_peer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> pingora::Result<Box<HttpPeer>> {
        let Exchange { live, passthrough: Some(pass), record, .. } = exchange else {
            return Error::e_explain(ErrorType::InternalError, "no endpoint was leased");
        };
        if let Some(wait) = pass.backoff(Instant::now()) {
            tokio::time::sleep(wait).await;
            if body::has_left(session).await {
                return Err(ShortCircuit::ClientGone.into_error());
            }
        }
        let now = Instant::now();
        pass.begin_attempt(now);
        let Some(endpoint) = pass.endpoint() else {
            return Error::e_explain(ErrorType::InternalError, "no endpoint was leased");
        };
        let spec = pass.spec(live);
        record.upstream = UpstreamRecord {
            pool: Some(spec.name.clone()),
            endpoint: Some(endpoint.addr()),
            tries: pass.count,
            ..UpstreamRecord::default()
        };
        let mut peer = Box::new(self.upstream_tls.peer(spec, endpoint));
        upstream::use_connections_of(&mut peer, pass.mark.connections);
        let (rest, silence) = (pass.rest(now), pass.silence(live, now));
        let options = &mut peer.options;
        for timeout in [&mut options.connection_timeout, &mut options.total_connection_timeout] {
            *timeout = timeout.map(|timeout| timeout.min(rest));
        }
        options.read_timeout = Some(silence);
        options.write_timeout = Some(silence);
        upstream::keep_headers_in_place(&mut peer, &session.req_header().headers);
        if pass.is_reconnect {
            upstream::avoid_pooled_connections(&mut peer);
        }
        if let Some(tunnel) = &exchange.answer.tunnel {
            // Another task watches over it: it may be silent for longer than an answer.
            (peer.options.read_timeout, peer.options.write_timeout) = (None, None);
            peer.options.set_http_version(1, 1);
            tunnel.await_agreement(now, silence);
        }
        Ok(peer)
    }

    /// Keeps what mirrors get of a piece of the body, which passes as it is.
    pub(super) fn pass_body(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        piece: Option<&Bytes>,
        is_last: bool,
    ) {
        exchange.record.request.request_bytes += piece.map_or(0, Bytes::len);
        if let Some(tunnel) = exchange.answer.tunnel.as_ref().filter(|tunnel| tunnel.is_open()) {
            tunnel.heard(Instant::now());
            return;
        }
        let Exchange { passthrough: Some(pass), active, .. } = exchange else { return };
        let Some(copy) = &mut pass.copy else { return };
        copy.add(piece, active);
        if is_last {
            send_copies(self, exchange, session.req_header());
        }
    }

    /// Has another attempt made for a status that the rule lists; says so by an error.
    pub(super) fn pass_status(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        response: &ResponseHeader,
    ) -> pingora::Result<()> {
        let status = response.status;
        let failure =
            AttemptFailure::Status { status, retry_after: upstream::retry_after(&response.headers) };
        if self.next_plain(session, exchange, failure) != NextStep::Retry {
            return Ok(());
        }
        let mut error =
            Error::explain(ErrorType::HTTPStatus(status.as_u16()), "tried again, as the route says");
        error.set_retry(true);
        Err(error)
    }

    /// Decides what follows a failure of the current attempt, and prepares it.
    pub(super) fn next_plain(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        failure: AttemptFailure,
    ) -> NextStep {
        let Exchange { live, passthrough: Some(pass), .. } = exchange else {
            return NextStep::GiveUp(Rejection::Internal);
        };
        let is_replayable = !session.as_downstream().retry_buffer_truncated();
        let failed = PlainFailure { failure, is_replayable, now: Instant::now() };
        pass.next(failed, live, &self.metrics)
    }
}

/// What of a request that its client sends badly, or not at all, is answered; nothing where the client has left.
pub(super) fn fault_of_client(error: &Error) -> Option<Rejection> {
    let is_of_client = *error.esource() == ErrorSource::Downstream;
    match error.etype() {
        ErrorType::ReadTimedout if is_of_client => Some(Rejection::SlowBody),
        _ if is_of_client && body::is_bad_framing(error) => Some(Rejection::BadFraming),
        _ => None,
    }
}

/// Makes the header of an answer the client's, as the backend's picker changes it where it has one.
pub(super) async fn pass_header(
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> pingora::Result<()> {
    let Some(pass) = &mut exchange.passthrough else { return Ok(()) };
    let (via, served) = (Arc::clone(pass.via()), pass.endpoint().map(Endpoint::addr));
    if let (Some(picked), Some(served)) = (&mut pass.picked, served) {
        let changes = picked.session.report_header(served, response.status, &response.headers).await;
        for name in &changes.remove {
            response.remove_header(name);
        }
        for (name, value) in changes.set {
            response.insert_header(name, value)?;
        }
    }
    respond::prepare_plainly(response, exchange, &via)
}

/// Tells the backend's picker a piece of the answer; ends an answer that is not whole in time.
pub(super) fn on_piece(exchange: &mut Exchange, piece: Option<&Bytes>) -> pingora::Result<()> {
    if exchange.is_tunnel() {
        // Its own watch bounds it.
        return Ok(());
    }
    let Some(pass) = &mut exchange.passthrough else { return Ok(()) };
    if let (Some(picked), Some(piece)) = (&mut pass.picked, piece) {
        picked.session.report_piece(piece);
    }
    if pass.is_over(Instant::now()) {
        return Err(RequestFailure::explain(Rejection::UpstreamTimeout, "the request's time is over"));
    }
    Ok(())
}
