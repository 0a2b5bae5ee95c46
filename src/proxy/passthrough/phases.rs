//! Owns what each of Pingora's phases does with a request that passes unread.
//!
//! Decides nothing: where it goes its route says, and what follows a failure its attempts.

use super::copy::{self, PlainCopy};
use super::{Passthrough, PlainFailure};
use crate::openai::{Rejection, may_name_api};
use crate::policy::{HostRule, PoolSpec};
use crate::proxy::admit::ShortCircuit;
use crate::proxy::attempt_failure::{AttemptFailure, NextStep};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::{RETRY_AFTER, RequestFailure};
use crate::proxy::header_changes::{apply_changes, change_request, rewritten, rewritten_host, set};
use crate::proxy::headers::{X_REQUEST_ID, is_forwarded, is_forwarded_plainly, names_of, without_keys};
use crate::proxy::{Gateway, body, respond, routing, upstream};
use crate::route::FollowedRule;
use crate::telemetry::UpstreamRecord;
use bytes::Bytes;
use http::Method;
use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;
use std::time::Instant;

/// How much of a request is kept so that it can be sent again: Pingora's buffer for that.
const REPLAYED: usize = 64 << 10;

impl Gateway {
    /// Takes a request of no inference API up to its first endpoint, where a route has one for it.
    pub(in crate::proxy) async fn admit_plainly(
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
        let has_body = !session.as_downstream_mut().is_body_empty();
        let targets = routing::follow_plain(self.ports.as_deref(), session, exchange, has_body)?;
        let overloaded = Rejection::Overloaded { retry_after: RETRY_AFTER };
        let held = exchange.active.buffered.bytes() + if has_body { REPLAYED } else { 0 };
        exchange.active.buffered.grow_to(held).map_err(|_full| overloaded.clone())?;
        exchange.take_slot(keeps_slots).map_err(|_full| overloaded)?;
        let header = session.req_header();
        let pass = Passthrough::start(&exchange.live, targets, &header.method, Instant::now())?;
        exchange.passthrough = Some(Box::new(pass));
        self.plan_copy(exchange, header, has_body);
        let idle = exchange.passthrough.as_ref().map(|pass| pass.spec(&exchange.live).timeouts.idle);
        let downstream = session.as_downstream_mut();
        downstream.set_read_timeout(idle);
        if has_body
            && downstream.get_header_bytes(EXPECT).eq_ignore_ascii_case(b"100-continue")
            && downstream.write_continue_response().await.is_err()
        {
            return Err(ShortCircuit::ClientGone);
        }
        Ok(Bytes::new())
    }

    /// Has mirrors get copies: at once, where there is nothing to wait for.
    fn plan_copy(&self, exchange: &mut Exchange, header: &RequestHeader, has_body: bool) {
        let Some(pass) = &mut exchange.passthrough else { return };
        pass.copy = PlainCopy::plan(&exchange.live, pass.via()).map(Box::new);
        if !has_body {
            copy::send(self, exchange, header);
        }
    }

    /// Makes the peer of the current attempt.
    pub(in crate::proxy) async fn plain_peer(
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
        let Some(endpoint) = pass.endpoint() else {
            return Error::e_explain(ErrorType::InternalError, "no endpoint was leased");
        };
        let (spec, now) = (pass.spec(live), Instant::now());
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
        Ok(peer)
    }

    /// Keeps what mirrors get of a piece of the body, which passes as it is.
    pub(in crate::proxy) fn pass_body(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        piece: Option<&Bytes>,
        is_last: bool,
    ) {
        exchange.record.request.request_bytes += piece.map_or(0, Bytes::len);
        let Exchange { passthrough: Some(pass), active, .. } = exchange else { return };
        let Some(copy) = &mut pass.copy else { return };
        copy.add(piece, active);
        if is_last {
            copy::send(self, exchange, session.req_header());
        }
    }

    /// Has another attempt made for a status that the rule lists; says so by an error.
    pub(in crate::proxy) fn pass_status(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        response: &ResponseHeader,
    ) -> pingora::Result<()> {
        let status = response.status;
        let failure = AttemptFailure::Status { status, retry_after: upstream::retry_after(&response.headers) };
        if self.next_plain(session, exchange, failure) != NextStep::Retry {
            return Ok(());
        }
        let mut error = Error::explain(ErrorType::HTTPStatus(status.as_u16()), "tried again, as the route says");
        error.set_retry(true);
        Err(error)
    }

    /// Decides what follows a failure of the current attempt, and prepares it.
    pub(in crate::proxy) fn next_plain(&self, session: &Session, exchange: &mut Exchange, failure: AttemptFailure) -> NextStep {
        let Exchange { live, passthrough: Some(pass), .. } = exchange else {
            return NextStep::GiveUp(Rejection::Internal);
        };
        let is_replayable = !session.as_downstream().retry_buffer_truncated();
        let failed = PlainFailure { failure, is_replayable, now: Instant::now() };
        pass.next(failed, live, &self.metrics)
    }
}

/// What of a request that its client sends badly, or not at all, is answered; nothing where the client has left.
pub(in crate::proxy) fn fault_of_client(error: &Error) -> Option<Rejection> {
    let is_of_client = *error.esource() == ErrorSource::Downstream;
    match error.etype() {
        ErrorType::ReadTimedout if is_of_client => Some(Rejection::SlowBody),
        _ if is_of_client && body::is_bad_framing(error) => Some(Rejection::BadFraming),
        _ => None,
    }
}

/// Turns the client's request into that of the current attempt.
pub(in crate::proxy) fn prepare_plainly(
    request: &mut RequestHeader,
    exchange: &Exchange,
) -> Result<(), Rejection> {
    let pass = exchange.passthrough.as_ref().ok_or(Rejection::Internal)?;
    let authority = pass.endpoint().map_or("", |endpoint| endpoint.host());
    prepare(request, exchange, BackendTarget { spec: pass.spec(&exchange.live), authority, is_copy: false })
}

/// What a request is made for.
#[derive(Clone, Copy)]
pub(super) struct BackendTarget<'a> {
    pub(super) spec: &'a PoolSpec,
    /// The endpoint's host and port.
    pub(super) authority: &'a str,
    /// Whether it is a mirror's: what is changed for the backend alone is not changed there.
    pub(super) is_copy: bool,
}

/// Turns the client's request into a backend's.
pub(super) fn prepare(
    request: &mut RequestHeader,
    exchange: &Exchange,
    target: BackendTarget<'_>,
) -> Result<(), Rejection> {
    let pass = exchange.passthrough.as_ref().ok_or(Rejection::Internal)?;
    let (via, BackendTarget { spec, authority, is_copy }): (&FollowedRule, _) = (pass.via(), target);
    let (is_plain, identity) = (exchange.is_plain(), &exchange.live.policy.identity);
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(request, blank));
    let asked = routing::asked_host(&parts);
    let passes = |name: &_| {
        let passes = if is_plain { is_forwarded_plainly(name, identity) } else { is_forwarded(name, spec, identity) };
        passes || *name == TRANSFER_ENCODING
    };
    for name in names_of(&parts.headers, |name| !passes(name)) {
        parts.headers.remove(&name);
    }
    if let Some(public) = without_keys(&parts.uri, spec).filter(|_| !is_plain) {
        parts.uri = public;
    }
    let path = rewritten(&parts.uri, via).or_else(|| parts.uri.path_and_query()?.as_str().parse().ok());
    parts.uri = path.ok_or(Rejection::Internal)?;
    // As it was found to be before; said again where it counts.
    if !is_plain && may_name_api(parts.uri.path()) {
        return Err(Rejection::Internal);
    }
    let host = match &spec.host {
        HostRule::Fixed(host) => host.as_str(),
        HostRule::Endpoint => asked.as_deref().unwrap_or(authority),
    };
    set(&mut parts.headers, HOST, rewritten_host(via).unwrap_or(host))?;
    set(&mut parts.headers, X_REQUEST_ID, exchange.record.own_id())?;
    if is_copy {
        apply_changes(&mut parts.headers, &via.rule.filters.headers.request)?;
    } else {
        change_request(&mut parts.headers, via)?;
    }
    *request = parts.into();
    Ok(())
}

/// Makes the header of an answer the client's.
pub(in crate::proxy) fn pass_header(
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> pingora::Result<()> {
    let Some(via) = exchange.passthrough.as_ref().map(|pass| pass.via().clone()) else { return Ok(()) };
    respond::prepare_plainly(response, exchange, &via)
}

/// Ends an answer that is not whole in time.
pub(in crate::proxy) fn keep_time(exchange: &Exchange) -> pingora::Result<()> {
    let is_over = |pass: &Passthrough| pass.rest(Instant::now()).is_zero();
    if exchange.passthrough.as_deref().is_some_and(is_over) {
        return Err(RequestFailure::explain(Rejection::UpstreamTimeout, "the request's time is over"));
    }
    Ok(())
}
