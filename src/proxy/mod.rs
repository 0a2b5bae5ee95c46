//! Owns the life of a request: Pingora's phases, each passed to the [`Exchange`] and to the file that does its work.
//!
//! Reads the live snapshot, never writes it. The only implementor of `ProxyHttp`.

mod admission;
mod admit;
mod answer;
mod answer_tasks;
mod attempt;
mod attempt_failure;
mod body;
mod cache_lookup;
mod client_connection;
mod client_watch;
mod concurrent_prefill;
mod content_coding;
mod copies;
mod cors;
mod deadline;
mod endpoint_reports;
mod error_text;
mod exchange;
mod ext_proc;
mod external_pick;
mod failed_attempt;
mod failed_end;
mod failure;
mod handover;
mod header_changes;
mod headers;
mod hedge;
mod held_error;
mod identity;
mod keep_alive;
mod load_report;
mod model_list;
mod passthrough;
mod plain_copies;
mod plain_phases;
mod plain_picking;
mod plain_request;
mod planned_request;
mod prefill;
mod record;
mod replay;
mod resources;
mod respond;
mod routing;
mod shadow;
mod side_client;
mod slow_client;
mod stored_responses;
mod timer;
mod tokenize;
mod tunnel;
mod upgrade_request;
mod upstream;
mod upstream_error;
mod wake;
mod websocket;

pub use client_watch::WatchedProxy;
pub use exchange::Exchange;
pub use routing::{PublicPort, PublicPorts};

use crate::balance::Endpoint;
use crate::policy::{ClientLimits, Cors, PoolSpec};
use crate::server_state::ServerState;
use crate::snapshot::Live;
use crate::telemetry::{AccessLog, AccessRecord, Metrics, ResponsePath};
use admit::{ShortCircuit, short_circuit};
use answer::VerifyOutcome;
use async_trait::async_trait;
use attempt_failure::{AttemptFailure, NextStep};
use bytes::Bytes;
use ext_proc::EndpointPickers;
use failure::RequestFailure;
use held_error::{HeldAnswer, HeldError};
use http::{HeaderMap, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use replay::{ExpectedAnswer, ReplayHandle};
use shadow::ShadowClient;
use side_client::SideClient;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use upstream::UpstreamTls;
use wake::Wakes;

/// The proxy: what every request needs.
#[derive(Clone)]
pub struct Gateway {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    server_state: Arc<ServerState>,
    limits: ClientLimits,
    cors: Option<Arc<Cors>>,
    log: AccessLog,
    upstream_tls: Arc<UpstreamTls>,
    shadows: Arc<ShadowClient>,
    pickers: Arc<EndpointPickers>,
    side_client: Arc<SideClient>,
    wakes: Arc<Wakes>,
    ports: Option<Arc<PublicPorts>>,
}

impl Gateway {
    /// Makes a proxy that follows the live snapshot.
    pub fn new(
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        server_state: Arc<ServerState>,
        limits: ClientLimits,
        log: AccessLog,
    ) -> Self {
        let pickers: Arc<EndpointPickers> = Arc::default();
        Self {
            live,
            metrics,
            server_state,
            limits,
            cors: None,
            log,
            upstream_tls: Arc::default(),
            shadows: ShadowClient::new(Arc::clone(&pickers)),
            pickers,
            side_client: Arc::new(SideClient::new()),
            wakes: Arc::default(),
            ports: None,
        }
    }

    /// Lets pages in browsers ask.
    #[must_use]
    pub fn with_cors(self, cors: Option<Cors>) -> Self {
        Self { cors: cors.map(Arc::new), ..self }
    }

    /// How a peer of a pool is made, for health probes that connect as the proxy does.
    pub fn peer_of(&self) -> impl Fn(&PoolSpec, &Endpoint) -> HttpPeer + Send + Sync + 'static {
        let upstream_tls = Arc::clone(&self.upstream_tls);
        move |pool: &PoolSpec, endpoint: &Endpoint| upstream_tls.peer(pool, endpoint)
    }

    /// Counts and logs a finished request.
    fn finish(&self, record: AccessRecord, verified: Option<&VerifyOutcome>) {
        if let Some(outcome) = verified {
            outcome.findings.iter().for_each(|findings| self.metrics.classified(findings, outcome.took));
        }
        self.metrics.finished(&record);
        self.log.write(record);
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora's futures move the context along, and a pointer moves faster.
    type CTX = Box<Exchange>;

    /// None: Pingora's default, the compression module, costs every chunk something, and nothing is compressed here.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    fn new_ctx(&self) -> Self::CTX {
        Box::new(Exchange::open(self.live.load(), self.server_state.enter()))
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<bool> {
        exchange.record_header(session);
        let opened = exchange.opened;
        exchange.connection =
            client_connection::of(session).map(|connection| connection.begin_request(opened));
        self.limit_connection(session);
        match self.admit(session, exchange).await {
            // A session of our own would hide from Pingora that the client's becomes another protocol's.
            Ok(_empty) if exchange.answer.tunnel.is_some() => Ok(false),
            Ok(body) => {
                if let Some(attempts) = &exchange.attempts {
                    let deadline = Arc::clone(&attempts.deadline);
                    let answer = ExpectedAnswer {
                        may_have_stages: exchange.may_have_stages(),
                        keep_alive: exchange.answer.api.keep_alive(),
                    };
                    exchange.replay = Some(ReplayHandle::install(session, body, deadline, answer));
                }
                Ok(false)
            }
            // Boxed: keeps the future of forwarded requests small.
            Err(reply) => Box::pin(short_circuit(session, exchange, reply)).await.map(|()| true),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        if exchange.passthrough.is_some() {
            return Box::pin(self.plain_peer(session, exchange)).await;
        }
        if let Some(wait) = exchange.attempts.as_ref().and_then(|attempts| attempts.backoff(Instant::now())) {
            tokio::time::sleep(wait).await;
        }
        if exchange.is_repeated() && body::has_left(session).await {
            return Err(ShortCircuit::ClientGone.into_error());
        }
        if exchange.awaits_external_pick() {
            let picked = Box::pin(self.pick_externally(session, exchange)).await;
            picked.map_err(ShortCircuit::into_error)?;
        }
        if exchange.sleeping_for().is_some() {
            // Boxed: keeps the future of other requests small.
            Box::pin(self.wake(session, exchange)).await?;
        }
        if exchange.may_prefill() {
            Box::pin(self.prefill(session, exchange)).await?;
        }
        let headers = &session.req_header().headers;
        let Some(attempt) = exchange.begin_attempt(headers, &self.metrics) else {
            return Error::e_explain(ErrorType::InternalError, "no endpoint was leased");
        };
        let mut peer = Box::new(self.upstream_tls.peer(attempt.spec, attempt.endpoint));
        upstream::connect_as(&mut peer, &attempt, headers);
        if exchange.answer.tunnel.is_some() {
            // WebSockets over HTTP/2 (RFC 8441) are none that Pingora knows.
            peer.options.set_http_version(1, 1);
        } else {
            replay::watch_client(session);
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
        if let Some(replay) = &exchange.replay {
            replay.send_over(request.version);
        }
        let prepared = match &exchange.passthrough {
            Some(_) => plain_request::prepare_plainly(request, exchange),
            None => upstream::prepare_request(request, exchange),
        };
        prepared.map_err(|rejection| {
            RequestFailure::explain(rejection, "the request cannot be made the upstream's")
        })
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        if exchange.passthrough.is_some() {
            self.pass_body(session, exchange, body.as_ref(), end_of_stream);
            return Ok(());
        }
        if let Some(tunnel) = &exchange.answer.tunnel {
            tunnel.heard(Instant::now());
            exchange.record.request.request_bytes += body.as_ref().map_or(0, Bytes::len);
            return Ok(());
        }
        // Called with the client's body, as the replay session sent it: what goes out is the attempt's own, at the end.
        // `None` would end the body, so pieces before the end are empty instead.
        let attempt = exchange.attempts.as_ref().filter(|_| end_of_stream);
        *body = Some(attempt.map_or_else(Bytes::new, |attempts| attempts.body().clone()));
        Ok(())
    }

    /// Called before the body is sent over HTTP/2.
    async fn custom_forwarding(
        &self,
        _session: &mut Session,
        exchange: &mut Self::CTX,
        _to_upstream: Option<Sender<Bytes>>,
        to_session: Sender<Bytes>,
    ) -> Result<()> {
        if let Some(replay) = &exchange.replay {
            replay.take_messages(to_session);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        let status = response.status;
        let agrees = status == StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() && !agrees {
            return Ok(());
        }
        if exchange.passthrough.is_some() {
            return self.pass_status(session, exchange, response);
        }
        exchange.settle_hedge(&self.metrics);
        exchange.on_answer(status, &self.metrics);
        if agrees {
            return Ok(());
        }
        exchange.note_load(&response.headers);
        if !status.is_client_error() && !status.is_server_error() {
            if exchange.holds_head()
                && let Some(head) = HeldAnswer::head(response)
            {
                exchange.hold(head);
            }
            return Ok(());
        }
        let retry_after = upstream::retry_after(&response.headers);
        if let Some(held) = HeldError::of(response, retry_after).filter(|_| exchange.replay.is_some()) {
            exchange.hold(HeldAnswer::Error(held));
            return Ok(());
        }
        let failure = AttemptFailure::Status { status, retry_after };
        let headers = &session.req_header().headers;
        if exchange.next(failure, headers, &self.metrics) == NextStep::Retry {
            return Err(error_text::tried_elsewhere(status));
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        self.read_held(session, body, end_of_stream, exchange).map(|()| None)
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            respond::stamp(response, exchange, ResponsePath::Upstream);
            return websocket::open(response, exchange);
        }
        if response.status.is_informational() {
            respond::clean(response);
            return Ok(());
        }
        if exchange.is_held() {
            return Ok(());
        }
        if exchange.passthrough.is_some() {
            return plain_phases::pass_header(response, exchange).await;
        }
        exchange.report_header(response).await?;
        respond::prepare(response, exchange)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        exchange: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        exchange.on_chunk(body.as_deref().unwrap_or_default(), &self.metrics);
        plain_phases::on_piece(exchange, body.as_ref()).map(|()| None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        _exchange: &mut Self::CTX,
    ) -> Result<Option<Bytes>> {
        for name in headers::ending_here(trailers) {
            trailers.remove(name);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Self::CTX,
        error: Box<Error>,
    ) -> Box<Error> {
        let timed_out = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        self.after_failure(AttemptFailure::Connect { timed_out }, session, exchange, error)
    }

    /// Pingora calls this for every error between the connection and the last byte, our own included.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        self.attempt_failed(peer, session, error, exchange, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Self::CTX,
    ) -> FailToProxy {
        self.end_failed(session, error, exchange).await
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Self::CTX) {
        if let Some(replay) = &mut exchange.replay {
            replay.uninstall(session);
        }
        self.learn_tokens(exchange);
        let outcome = exchange.close();
        let mut record = std::mem::take(&mut exchange.record);
        let Some(mut outcome) = outcome else { return self.finish(record, None) };
        if !outcome.is_pending() {
            return self.finish(record, outcome.complete().as_ref());
        }
        // The client has its answer: only the log line waits for the verification, and a draining process for both.
        let (gateway, active) = (self.clone(), self.server_state.enter());
        tokio::spawn(async move {
            outcome.verify(&mut record).await;
            gateway.finish(record, outcome.complete().as_ref());
            drop(active);
        });
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Self::CTX, _error: &Error) -> bool {
        // The access log has it.
        true
    }
}
