//! Owns the life of a request: Pingora's phases, each told to the [`Exchange`] and done by the file it belongs to.
//!
//! Reads the live snapshot, never writes it. The only door to `ProxyHttp`.

mod access_log;
mod admit;
mod answer;
mod body;
mod cache_lookup;
mod deadline;
mod exchange;
mod identity;
mod notes;
mod peer;
mod replay;
mod respond;
mod shadow;

pub use access_log::{AccessLog, Flush};
pub use exchange::Exchange;

use crate::metrics::Metrics;
use crate::openai::{Format, Rejection, UsageReader};
use crate::policy::{Limits, PoolSpec};
use crate::record::{Record, bounded};
use crate::snapshot::Live;
use crate::vitals::Vitals;
use admit::Ended;
use answer::VerifyOutcome;
use async_trait::async_trait;
use bytes::Bytes;
use exchange::RetryCause;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use peer::Wardrobe;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use shadow::Shadows;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The proxy: what every request needs.
#[derive(Clone)]
pub struct Gateway {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    vitals: Arc<Vitals>,
    limits: Limits,
    log: AccessLog,
    wardrobe: Arc<Wardrobe>,
    shadows: Arc<Shadows>,
}

impl Gateway {
    /// Makes a proxy that follows the live snapshot.
    pub fn new(
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        vitals: Arc<Vitals>,
        limits: Limits,
        log: AccessLog,
    ) -> Self {
        let (wardrobe, shadows) = (Arc::default(), Shadows::new());
        Self { live, metrics, vitals, limits, log, wardrobe, shadows }
    }

    /// Tells others how an endpoint of a pool is spoken to.
    pub fn peer_of(&self) -> impl Fn(&PoolSpec, SocketAddr) -> HttpPeer + Send + Sync + 'static {
        let wardrobe = Arc::clone(&self.wardrobe);
        move |pool: &PoolSpec, address| wardrobe.peer(pool, address)
    }

    /// Bounds what this client's connection may do.
    fn bound(&self, session: &mut Session) {
        let downstream = session.as_downstream_mut();
        // What the request's own header or framing forbids stays forbidden.
        let keepalive = downstream.get_keepalive().filter(|_| !self.vitals.is_draining());
        downstream.set_keepalive(keepalive.map(|_| self.limits.idle_timeout.as_secs().max(1)));
        // Without it a request that comes early would end the one before it.
        downstream.set_pipelining_enabled(true);
        // `body::read` bounds the whole body's time.
        downstream.set_read_timeout(None);
        // A client that stops reading must not hold an endpoint for ever.
        downstream.set_write_timeout(Some(self.limits.idle_timeout));
        downstream.set_total_drain_timeout(Some(self.limits.body_timeout));
    }

    /// Answers a request that goes no further.
    async fn answer(&self, session: &mut Session, exchange: &mut Exchange, ended: Ended) -> Result<()> {
        let downstream = session.as_downstream_mut();
        match ended {
            Ended::ListModels => respond::models(downstream, exchange).await,
            Ended::GetModel(name) => respond::model(downstream, exchange, name).await,
            Ended::Said(api, request, answer) => {
                respond::say(downstream, exchange, (api, &request), answer).await
            }
            Ended::Again(api, request, answer) => {
                respond::again(downstream, exchange, (api, &request), answer).await
            }
            Ended::Rejected(rejection) => respond::reject(downstream, exchange, rejection).await,
            Ended::Gone => {
                exchange.answer.client_gone = true;
                Err(Error::explain(ErrorType::ConnectionClosed, "the client has gone").into_down())
            }
        }
    }

    /// Counts and logs a finished request.
    fn finish(&self, record: Record, judged: Option<&VerifyOutcome>) {
        if let Some(outcome) = judged {
            outcome.findings.iter().for_each(|findings| self.metrics.classified(findings, outcome.took));
        }
        self.metrics.finished(&record);
        self.log.write(record);
    }

    /// Whether an answer's status is one that another endpoint may better, and there is one.
    fn retries_status(&self, status: StatusCode, session: &Session, exchange: &mut Exchange) -> bool {
        let failed = status.is_client_error() || status.is_server_error();
        failed
            && exchange.retry(
                RetryCause::Status(status.as_u16()),
                &session.req_header().headers,
                &self.metrics,
            )
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora's futures move it along, a pointer is moved faster.
    type CTX = Box<Exchange>;

    /// None: answers are never compressed here, and a module costs something for every chunk.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    fn new_ctx(&self) -> Self::CTX {
        Box::new(Exchange::open(self.live.load(), self.vitals.enter()))
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<bool> {
        note(session, exchange);
        self.bound(session);
        match self.admit(session, exchange).await {
            Ok(body) => {
                let (deadline, pipeline) = (Arc::clone(&exchange.deadline), exchange.pipeline.clone());
                exchange.replay = Some(replay::install(session, body, deadline, pipeline));
                Ok(false)
            }
            // Apart: what every request moves along stays small.
            Err(ended) => Box::pin(self.answer(session, exchange, ended)).await.map(|()| true),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let Some((pool, address)) = exchange.attempt() else {
            return Error::e_explain(ErrorType::InternalError, "no endpoint was leased");
        };
        let mut peer = Box::new(self.wardrobe.peer(exchange.live.pool_spec(pool), address));
        peer::plain(&mut peer, &session.req_header().headers);
        if exchange.reconnects() {
            peer::unpooled(&mut peer);
        }
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        exchange.await_first_byte();
        peer::dress(request, exchange).map_err(|rejection| {
            exchange.answer.rejection = Some(rejection);
            Error::explain(ErrorType::InternalError, "the request cannot be made the upstream's")
        })
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        // `None` would end the body; what the replay sent is the client's own, the attempt's goes out.
        let attempt = exchange.course.as_ref().filter(|_| end_of_stream);
        *body = Some(attempt.map_or_else(Bytes::new, |course| course.body.clone()));
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        if response.status.is_server_error() {
            exchange.failed(&self.metrics);
        }
        if self.retries_status(response.status, session, exchange) {
            let mut error =
                Error::explain(ErrorType::HTTPStatus(response.status.as_u16()), "tried elsewhere");
            error.set_retry(true);
            return Err(error.into_up());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let format = Format::of(content_type);
        exchange.answer.is_stream = format == Format::EventStream;
        exchange.answer.usage = Some(UsageReader::new(format));
        if exchange.start_answer(format, response.status) {
            // What is judged on the way may change its length.
            response.remove_header(&CONTENT_LENGTH);
            response.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        respond::stamp(response, exchange, respond::Path::Upstream);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        exchange: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        exchange.received(body.as_deref().unwrap_or_default());
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        _exchange: &mut Self::CTX,
    ) -> Result<Option<Bytes>> {
        for name in peer::forged(trailers) {
            trailers.remove(name);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        exchange.failed(&self.metrics);
        let again = exchange.retry(RetryCause::Connect, &session.req_header().headers, &self.metrics);
        if !again {
            let timed_out =
                matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
            let rejection = if timed_out { Rejection::UpstreamTimeout } else { Rejection::UpstreamConnect };
            exchange.answer.rejection = Some(rejection);
        }
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        if matches!(error.etype(), ErrorType::HTTPStatus(_)) && error.retry() {
            // Decided in `upstream_response_filter`: the next endpoint is leased already.
            return error;
        }
        error.set_retry(false);
        if *error.etype() == replay::CUT {
            return error;
        }
        let unanswered = session.response_written().is_none_or(|written| written.status.is_informational());
        if exchange.deadline.is_past(Instant::now()) {
            exchange.failed(&self.metrics);
            exchange.answer.rejection = Some(Rejection::UpstreamTimeout);
        } else if *error.esource() != ErrorSource::Upstream {
            exchange.answer.client_gone = *error.esource() == ErrorSource::Downstream;
        } else if reused && unanswered && exchange.reconnect() {
            // The upstream closed a kept connection just as it was used: nobody's fault.
            error.set_retry(true);
        } else {
            exchange.failed(&self.metrics);
            let headers = &session.req_header().headers;
            let again = unanswered && exchange.retry(RetryCause::Reset, headers, &self.metrics);
            error.set_retry(again);
            if !again {
                exchange.answer.rejection = Some(Rejection::UpstreamReset);
            }
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Self::CTX,
    ) -> FailToProxy {
        if let Some(handle) = exchange.replay.take() {
            replay::uninstall(session, &handle);
        }
        if *error.etype() == replay::CUT {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let gone = exchange.answer.client_gone
            || (exchange.answer.rejection.is_none() && *error.esource() == ErrorSource::Downstream);
        if gone {
            exchange.answer.client_gone = true;
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let rejection = exchange.answer.rejection.take().unwrap_or(Rejection::Internal);
        let error_code = rejection.status().as_u16();
        tracing::warn!(request_id = %exchange.record.request_id, code = rejection.reason(), %error, "request failed");
        let downstream = session.as_downstream_mut();
        let begun = downstream.response_written().is_some_and(|written| !written.status.is_informational());
        if begun {
            if exchange.answer.is_stream {
                respond::break_off(downstream, &rejection).await;
            }
            exchange.answer.rejection = Some(rejection);
        } else {
            downstream.set_keepalive(None);
            exchange.answer.client_gone = respond::reject(downstream, exchange, rejection).await.is_err();
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Self::CTX) {
        if let Some(handle) = exchange.replay.take() {
            replay::uninstall(session, &handle);
        }
        exchange.close();
        let (judged, completed_store) = (exchange.outcome.take(), exchange.completed_store.take());
        let mut record = std::mem::take(&mut exchange.record);
        let Some(verification) = exchange.verification.take() else {
            Exchange::store(completed_store, judged.as_ref());
            self.finish(record, judged.as_ref());
            return;
        };
        // The client has its answer: nobody waits for the rest but the log, and whoever drains.
        let (gateway, in_flight) = (self.clone(), self.vitals.enter());
        tokio::spawn(async move {
            let judged = verification.judge().await;
            Exchange::store(completed_store, judged.as_ref());
            if let Some(outcome) = &judged {
                outcome.note(record.chosen.beside());
            }
            gateway.finish(record, judged.as_ref());
            drop(in_flight);
        });
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Self::CTX, _error: &Error) -> bool {
        // Our own line says it, in our own words.
        true
    }
}

/// Notes who asks what, before anything else is done.
fn note(session: &Session, exchange: &mut Exchange) {
    let header = session.req_header();
    exchange.record.request_id = request_id(header);
    exchange.record.client = session.client_addr().and_then(|client| client.as_inet()).copied();
    exchange.record.asked.method = header.method.clone();
    exchange.record.asked.path = bounded(header.uri.path());
}

/// The client's own request id if it is one that a header and a log line can carry, else a new one.
fn request_id(header: &RequestHeader) -> String {
    /// The longest id taken over.
    const LIMIT: usize = 128;
    let given = header.headers.get(peer::X_REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= LIMIT && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            id.to_owned()
        }
        _ => {
            let mut id = *b"req-................................";
            for (pair, byte) in id[4..].as_chunks_mut::<2>().0.iter_mut().zip(rand::random::<[u8; 16]>()) {
                *pair = [byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]);
            }
            String::from_utf8(id.to_vec()).unwrap_or_default()
        }
    }
}
