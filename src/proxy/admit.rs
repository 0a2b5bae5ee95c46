//! Owns the admission of a request, from its header to its first endpoint: identity, limits, body, plan, cache.
//!
//! Each step may end it with a response of the gateway's own, and so may the client by leaving.

use super::admission::{AdmissionClient, NotAdmitted};
use super::cache_lookup::{CacheLookup, CacheQuery, ParaphraseJudge};
use super::exchange::Exchange;
use super::failure::{RETRY_AFTER, RequestFailure};
use super::planned_request::PlannedRequest;
use super::resources::start_resource;
use super::routing::{self, RedirectAnswer, RouteStop};
use super::stored_responses::{StoredQuery, StoredReply, response_scope, resume, stored_response};
use super::{Gateway, body, content_coding, cors, identity, respond, websocket};
use crate::cache::ResponseScope;
use crate::openai::{Api, ChatRequest, Format, Inventory, Operation, Rejection, ResponseAction};
use crate::policy::{Cors, FixedUse, Principal};
use crate::route::{self, DirectResponse, Plan, PlanInput, PlanResult};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Instant;

/// How a request ends that is not forwarded.
pub(super) enum ShortCircuit {
    /// With the plan's own answer.
    Answer(Api, Box<ChatRequest>, DirectResponse),
    /// From the response cache.
    CachedAnswer(Api, Box<ChatRequest>, Bytes),
    /// With what is served.
    Describe(Inventory),
    /// With what is known of a response.
    StoredResponse(StoredReply),
    /// To a browser that asks whether it may ask.
    Preflight(Arc<Cors>),
    /// The same, as the route says.
    RoutePreflight,
    /// To another place, as the request's route says.
    Redirect(RedirectAnswer),
    Reject(Rejection),
    ClientGone,
}

impl From<Rejection> for ShortCircuit {
    fn from(rejection: Rejection) -> Self {
        ShortCircuit::Reject(rejection)
    }
}

impl From<NotAdmitted> for ShortCircuit {
    fn from(end: NotAdmitted) -> Self {
        match end {
            NotAdmitted::Rejected(rejection) => ShortCircuit::Reject(rejection),
            NotAdmitted::ClientGone => ShortCircuit::ClientGone,
        }
    }
}

impl From<RouteStop> for ShortCircuit {
    fn from(stop: RouteStop) -> Self {
        match stop {
            RouteStop::Reject(rejection) => Self::Reject(rejection),
            RouteStop::Redirect(answer) => Self::Redirect(answer),
        }
    }
}

impl ShortCircuit {
    /// The error by which Pingora ends a request that it has begun to forward.
    #[expect(clippy::unnecessary_box_returns, reason = "Pingora's errors are boxed everywhere")]
    pub(super) fn into_error(self) -> Box<Error> {
        match self {
            Self::Reject(rejection) => RequestFailure::explain(rejection, "the request is not forwarded"),
            _ => Error::explain(ErrorType::ConnectionClosed, "the client has gone").into_down(),
        }
    }
}

/// Answers a request that is not forwarded.
pub(super) async fn short_circuit(
    session: &mut Session,
    exchange: &mut Exchange,
    reply: ShortCircuit,
) -> pingora::Result<()> {
    let downstream = session.as_downstream_mut();
    match reply {
        ShortCircuit::Describe(asked) => respond::describe(downstream, exchange, asked).await,
        ShortCircuit::StoredResponse(reply) => respond::send_stored(downstream, exchange, reply).await,
        ShortCircuit::Preflight(cors) => respond::preflight(downstream, exchange, &cors).await,
        ShortCircuit::RoutePreflight => respond::route_preflight(downstream, exchange).await,
        ShortCircuit::Redirect(answer) => respond::redirect(downstream, exchange, &answer).await,
        ShortCircuit::Answer(api, request, answer) => {
            respond::send_answer(downstream, exchange, api, &request, answer).await
        }
        ShortCircuit::CachedAnswer(api, request, answer) => {
            respond::send_cached(downstream, exchange, api, &request, answer).await
        }
        ShortCircuit::Reject(rejection) => {
            // Others can have its room while what it still sends is read.
            exchange.active.buffered.release();
            respond::reject(downstream, exchange, rejection).await
        }
        ShortCircuit::ClientGone => Err(reply.into_error()),
    }
}

/// What a client asks for.
enum ClientOperation {
    Http(Operation),
    /// A WebSocket, for a model if it is named already.
    WebSocket(Option<String>),
    /// Of no inference API: what becomes of it the routes say.
    Plain,
}

/// A request as its client sent it, and the client where that is known.
#[derive(Clone, Copy)]
struct ClientRequest<'a> {
    api: Api,
    request: &'a ChatRequest,
    principal: Option<&'a Principal>,
}

impl Gateway {
    /// Takes a request up to its first endpoint; returns its body as the client sent it.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<Bytes, ShortCircuit> {
        routing::check_listener(self.ports.as_deref(), session, exchange)?;
        self.answer_browser(session, exchange)?;
        let header = session.req_header();
        let asked = self.asked(header, exchange);
        exchange.answer.api = match &asked {
            Ok(ClientOperation::Http(Operation::Infer(api))) => *api,
            _ => Api::of_errors(header.uri.path(), header.headers.contains_key("anthropic-version")),
        };
        let asked = asked?;
        let identity = &exchange.live.policy.identity;
        let peer = exchange.record.client.map(|client| client.ip());
        let principal = identity::principal(identity, &header.headers, peer);
        if identity.required && principal.is_none() {
            return Err(Rejection::Unidentified.into());
        }
        let admission_client = AdmissionClient::of(exchange, &header.headers, peer, principal.as_ref());
        let keeps_slots = identity.is_used() && principal.is_none();
        exchange.answer.debug = identity::may_debug(identity, &header.headers, peer, principal.as_ref());
        exchange.record_principal(principal.as_ref());
        exchange.header_bytes = header_bytes(header);
        exchange.active.buffered.grow_to(exchange.header_bytes).map_err(overloaded)?;
        let operation = match asked {
            ClientOperation::Http(operation) => operation,
            // Boxed: keeps the future of inference requests small.
            ClientOperation::Plain => {
                return Box::pin(self.admit_plainly(session, exchange, keeps_slots)).await;
            }
            ClientOperation::WebSocket(model) => {
                self.receive(session, exchange, keeps_slots).await?;
                return Ok(self.start_websocket(session, exchange, model.as_deref())?);
            }
        };
        let api = match operation {
            Operation::Infer(api) => api,
            Operation::StoredResponse(id, action) => {
                self.receive(session, exchange, keeps_slots).await?;
                let scope = response_scope(principal.as_ref());
                return ask_about_response(session, exchange, &id, action, scope).await;
            }
            Operation::Resource(family) => {
                let body = self.receive(session, exchange, keeps_slots).await?;
                let header = session.req_header();
                start_resource(exchange, family, header.uri.path(), body, &header.headers)?;
                return Ok(Bytes::new());
            }
            Operation::Describe(asked) => {
                exchange.take_slot(keeps_slots).map_err(overloaded)?;
                return Err(ShortCircuit::Describe(asked));
            }
        };
        let bytes = self.receive(session, exchange, keeps_slots).await?;
        let room = exchange.active.room_to_prepare(bytes.len(), self.limits.body_timeout).await;
        let room_to_prepare = room.map_err(overloaded)?;
        let mut request = read_request(session, exchange, api, bytes)?;
        let scope = match api {
            Api::Responses | Api::InputTokens => response_scope(principal.as_ref()),
            _ => ResponseScope::default(),
        };
        if request.previous_response().is_some() {
            request = Box::pin(resume(exchange, request, scope)).await?;
        }
        exchange.record_request(&request);
        let now = Instant::now();
        exchange.shed_early(&request, &admission_client, now)?;
        let client = ClientRequest { api, request: &request, principal: principal.as_ref() };
        let mut plan = match self.plan(session, exchange, client, now).await? {
            Ok(plan) => plan,
            Err(answer) => return Err(ShortCircuit::Answer(api, Box::new(request), answer)),
        };
        routing::follow(self.ports.as_deref(), session, exchange, &mut plan)?;
        // What a form's files hold is no part of a cache's key.
        if plan.effects.as_ref().is_some_and(|effects| effects.cache.is_some() && !request.is_form())
            && let Some(answer) = Box::pin(self.look_up(session, exchange, client, &plan)).await?
        {
            return Err(ShortCircuit::CachedAnswer(api, Box::new(request), answer));
        }
        let body = request.body().clone();
        // Others have that room while this one waits for its pool.
        let room_to_prepare = room_to_prepare.filter(|_| exchange.live.policy.admission.is_none());
        self.start(session, exchange, PlannedRequest { api, request, plan, scope }, &admission_client)
            .await?;
        drop(room_to_prepare);
        if let Err(full) = exchange.hold_copies() {
            exchange.attempts = None;
            return Err(overloaded(full).into());
        }
        // Here rather than before the connection is made, since what is refused here keeps the client's connection.
        if exchange.awaits_external_pick()
            && let Err(reply) = Box::pin(self.pick_externally(session, exchange)).await
        {
            exchange.attempts = None;
            return Err(reply);
        }
        self.send_copies(exchange, &session.req_header().headers);
        Ok(body)
    }

    /// Finds what a browser is told of what its page may; answers where that is all it asks.
    fn answer_browser(&self, session: &Session, exchange: &mut Exchange) -> Result<(), ShortCircuit> {
        if let Some(answer) = routing::cors_answer(self.ports.as_deref(), session, exchange) {
            exchange.answer.route_cors = Some(answer.headers.into());
            if answer.is_preflight {
                return Err(ShortCircuit::RoutePreflight);
            }
        }
        let header = session.req_header();
        if let Some(cors) = &self.cors {
            exchange.answer.origin = cors::allowed_origin(cors, &header.headers);
            if cors::is_preflight(header) {
                return Err(ShortCircuit::Preflight(Arc::clone(cors)));
            }
        }
        Ok(())
    }

    /// What a client asks for.
    fn asked(&self, header: &RequestHeader, exchange: &Exchange) -> Result<ClientOperation, Rejection> {
        let operation = Operation::of(&header.method, header.uri.path());
        let is_unknown = matches!(operation, Err(Rejection::UnknownPath { .. }));
        let is_plain = is_unknown && exchange.live.layers.routed().is_some();
        if !websocket::is_asked_for(header) {
            return if is_plain { Ok(ClientOperation::Plain) } else { operation.map(ClientOperation::Http) };
        }
        let model = match websocket::model_asked_for(header) {
            // What its pages may, the server that a route leads to says itself.
            Err(Rejection::NoWebSocket) if is_plain => return Ok(ClientOperation::Plain),
            model => model?,
        };
        websocket::check_origin(&header.headers, self.cors.as_deref())?;
        Ok(ClientOperation::WebSocket(model))
    }

    /// Leases the first endpoint of a planned request, once there is room in its pool.
    async fn start(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        planned: PlannedRequest,
        client: &AdmissionClient,
    ) -> Result<(), ShortCircuit> {
        if exchange.live.policy.admission.is_none() {
            return Ok(exchange.start(planned, 0, &session.req_header().headers, Instant::now())?);
        }
        // Boxed: keeps the future small for policies without admission.
        let admitted = Box::pin(exchange.wait_for_room(session, &planned, client)).await?;
        let length = planned.request.body().len();
        let room = exchange.active.room_to_prepare(length, self.limits.body_timeout).await;
        let _room_to_prepare = room.map_err(overloaded)?;
        exchange.start(planned, admitted.place, &session.req_header().headers, Instant::now())?;
        drop(admitted.permit);
        Ok(())
    }

    /// Reads the body, and takes a slot only then: who withholds a body takes none from those that have sent theirs.
    async fn receive(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        keeps_slots: bool,
    ) -> Result<Bytes, ShortCircuit> {
        let limits =
            body::BodyLimits { max_bytes: self.limits.max_body_bytes, time: self.limits.body_timeout };
        let bytes = body::read(session.as_downstream_mut(), limits, &mut exchange.active).await;
        let bytes = bytes.ok_or(ShortCircuit::ClientGone)??;
        let headers = &session.req_header().headers;
        let arrived = bytes.len();
        let bytes = content_coding::decoded(bytes, headers, limits.max_bytes).await?;
        if bytes.len() > arrived {
            let more = bytes.len() - arrived;
            let held = &mut exchange.active.buffered;
            held.grow_to(held.bytes() + more).map_err(overloaded)?;
        }
        exchange.take_slot(keeps_slots).map_err(overloaded)?;
        exchange.record.request.request_bytes = bytes.len();
        Ok(bytes)
    }

    /// Plans a request, unless its client leaves meanwhile.
    async fn plan(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        client: ClientRequest<'_>,
        began: Instant,
    ) -> Result<Result<Plan, DirectResponse>, ShortCircuit> {
        let live = Arc::clone(&exchange.live);
        let sent = sticky_headers(&live, &session.req_header().headers);
        let deadline = began + live.policy.classifier.deadline;
        let ClientRequest { api, request, principal } = client;
        let input = PlanInput { api, request, principal, sent: &sent, deadline, dry_run: false };
        let planned = tokio::select! {
            biased;
            planned = route::plan(&live, input) => planned,
            _left = session.as_downstream_mut().read_body_or_idle(true) => return Err(ShortCircuit::ClientGone),
        };
        let PlanResult { trace, known, outcome } = planned;
        if let Some(known) = known {
            let took = began.elapsed();
            known.findings().for_each(|findings| self.metrics.classified(findings, took));
            exchange.record_classifier(&known, took);
            exchange.record_signals(&known.signals);
        }
        if let Some(trace) = trace {
            exchange.record_trace(trace);
        }
        Ok(outcome)
    }

    /// Asks the response cache, unless the client leaves meanwhile.
    async fn look_up(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        client: ClientRequest<'_>,
        plan: &Plan,
    ) -> Result<Option<Bytes>, ShortCircuit> {
        let live = Arc::clone(&exchange.live);
        let (Some(cache), Some(effects)) = (&live.cache, plan.effects.as_deref()) else { return Ok(None) };
        let Some(wanted) = effects.cache else { return Ok(None) };
        let header = session.req_header().clone();
        let ClientRequest { api, request, principal } = client;
        let judge = ParaphraseJudge::new(&live);
        let query = CacheQuery {
            cache,
            wanted,
            api,
            request,
            principal,
            record: &exchange.record,
            live: &live,
            plan,
            effects,
            header: &header,
            judge: &judge,
        };
        let found = tokio::select! {
            biased;
            found = query.look_up() => found,
            _left = session.as_downstream_mut().read_body_or_idle(true) => return Err(ShortCircuit::ClientGone),
        };
        let details = exchange.record.details();
        let (result, answer) = match found {
            CacheLookup::Found(answer, result, score) => {
                details.cache.similarity = Some(score);
                (result, Some(answer))
            }
            CacheLookup::Missed(pending_store) => {
                exchange.pending_store = Some(pending_store);
                ("miss", None)
            }
            CacheLookup::Bypassed => ("bypass", None),
        };
        details.cache.result = Some(result);
        details.cache.paraphrase = judge.highest();
        Ok(answer)
    }
}

/// Answers what is asked about a response, or finds the endpoint that has it: what goes there has no body.
async fn ask_about_response(
    session: &Session,
    exchange: &mut Exchange,
    id: &str,
    action: ResponseAction,
    scope: ResponseScope,
) -> Result<Bytes, ShortCircuit> {
    let header = session.req_header();
    let query = header.uri.query().unwrap_or_default();
    let asked = StoredQuery { id, action, query, scope };
    let found = Box::pin(stored_response(exchange, asked, &header.headers)).await?;
    found.map_or(Ok(Bytes::new()), |reply| Err(ShortCircuit::StoredResponse(reply)))
}

/// Reads a body: JSON, or a form where the API takes such.
fn read_request(
    session: &Session,
    exchange: &Exchange,
    api: Api,
    bytes: Bytes,
) -> Result<ChatRequest, Rejection> {
    let content_type = session.req_header().headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = Format::of(content_type) == Format::Json;
    if api.takes_forms() && !is_json {
        return ChatRequest::of_form(api, bytes, content_type.unwrap_or_default());
    }
    let policy = &exchange.live.policy;
    let default = policy.default_for(FixedUse::Moderation).filter(|_| api == Api::Moderations);
    ChatRequest::of_any_model(api, bytes, default.map(|model| &*policy[model].name))
}

/// Says that a limit is reached, whichever it is.
fn overloaded<E: std::error::Error>(_limit: E) -> Rejection {
    Rejection::Overloaded { retry_after: RETRY_AFTER }
}

/// How much a header takes, with its two maps of names.
fn header_bytes(header: &RequestHeader) -> usize {
    let fields = header.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    header.raw_path().len() + fields.sum::<usize>()
}

/// The headers that sticky decisions recognise a session by, as the client sent them.
fn sticky_headers(live: &Snapshot, headers: &HeaderMap) -> Vec<(String, String)> {
    let sent = live.models.sticky_headers.iter().filter_map(|name| {
        let value = headers.get(name.as_str())?.to_str().ok()?;
        Some((name.clone(), value.to_owned()))
    });
    sent.collect()
}
