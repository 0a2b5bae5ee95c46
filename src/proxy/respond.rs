//! Owns the gateway's own responses, and the headers that every response carries about its routing.
//!
//! Decides nothing: it sends what the exchange has recorded.

use super::answer::AnswerHead;
use super::exchange::Exchange;
use super::failure::RequestFailure;
use super::header_changes::change_response;
use super::headers::{OF_THE_BODY, ending_here, ending_plainly, upstream_id};
use super::replay::ReplayHandle;
use super::routing::RedirectAnswer;
use super::stored_responses::StoredReply;
use super::{body, cors, model_list};
use crate::openai::{Api, ChatRequest, Inventory, LocalReply, Rejection, stream_of};
use crate::policy::{BlockStyle, Cors};
use crate::route::{DirectResponse, FollowedRule};
use crate::telemetry::{ResponsePath, write_headers};
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a client may take to read the event that ends its stream over HTTP/2 before that is reset.
const RESET_AFTER: Duration = Duration::from_millis(200);

/// Where Anthropic's clients look for the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Adds the routing headers to a response, and removes what an upstream sent under their names or for itself.
///
/// Goes through `http::response::Parts`: that drops Pingora's second map of header names in their original case, for
/// which every request would pay again per header. Names go out in lower case, the commonest ones excepted.
pub(super) fn stamp(response: &mut ResponseHeader, exchange: &mut Exchange, path: ResponsePath) {
    let blank = ResponseHeader::from(http::Response::new(()).into_parts().0);
    let given = std::mem::replace(response, blank);
    let reason = given.get_reason_phrase().filter(|reason| Some(*reason) != given.status.canonical_reason());
    let reason = reason.map(str::to_owned);
    let mut parts = Parts::from(given);
    let headers = &mut parts.headers;
    let ending = if exchange.is_plain() { ending_plainly(headers) } else { ending_here(headers) };
    for name in ending {
        headers.remove(&name);
    }
    exchange.record.response.response_path = path;
    exchange.record.response.status = parts.status.as_u16();
    write_headers(&exchange.record, headers, exchange.answer.debug);
    if let Some(told) = &exchange.answer.route_cors {
        cors::tell(headers, told);
    } else if let Some(origin) = &exchange.answer.origin {
        cors::mark(headers, origin);
    }
    if exchange.answer.api.has_request_id() && !headers.contains_key(REQUEST_ID) {
        headers.extend(HeaderValue::from_str(exchange.record.own_id()).ok().map(|id| (REQUEST_ID, id)));
    }
    *response = parts.into();
    if reason.is_some() {
        // Infallible in this version of Pingora.
        let _ = response.set_reason_phrase(reason.as_deref());
    }
}

/// Makes an upstream's header the client's, and sets up the stages of the answer. Fails where the client has to get an
/// error in its place.
pub(super) fn prepare(response: &mut ResponseHeader, exchange: &mut Exchange) -> pingora::Result<()> {
    exchange.record.upstream.upstream_request_id = upstream_id(&response.headers).map(str::to_owned);
    let head = AnswerHead::of(response.status, &response.headers);
    let rewrites = exchange.start_answer(head).map_err(RequestFailure::of_answer)?;
    let translation = exchange.attempts.as_ref().and_then(|attempts| attempts.translation(&exchange.live));
    if let Some(translation) = translation {
        if !exchange.answer.is_stream {
            response.insert_header(CONTENT_TYPE, "application/json")?;
        }
        response.set_status(translation.status(response.status))?;
    }
    if rewrites {
        for name in OF_THE_BODY {
            response.remove_header(name);
        }
        response.remove_header(&CONTENT_LENGTH);
        response.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    stamp(response, exchange, ResponsePath::Upstream);
    let via = exchange.attempts.as_ref().and_then(|attempts| attempts.target().via.as_deref());
    via.map_or(Ok(()), |via| change_response(response, via))
}

/// Makes the header of an answer that passes unread the client's.
pub(super) fn prepare_plainly(
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
    via: &FollowedRule,
) -> pingora::Result<()> {
    exchange.record.upstream.upstream_request_id = upstream_id(&response.headers).map(str::to_owned);
    stamp(response, exchange, ResponsePath::Upstream);
    change_response(response, via)
}

/// Removes from an interim answer what ends here.
pub(super) fn clean(interim: &mut ResponseHeader) {
    for name in ending_here(&interim.headers) {
        interim.remove_header(&name);
    }
}

/// Answers with a text of the gateway's own, in the shape of the request's API, streamed if the client asked for that;
/// where the API's answers are no texts, with an error.
pub(super) async fn send_answer(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    api: Api,
    request: &ChatRequest,
    answer: DirectResponse,
) -> pingora::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if let DirectResponse::Blocked(rejection) = &answer {
        exchange.record.details().guards.blocked = Some(rejection.reason());
    }
    let (path, reply) = match (answer, exchange.live.policy.block_style) {
        (DirectResponse::Rejected(rejection), _)
        | (DirectResponse::Blocked(rejection), BlockStyle::Error) => {
            return reject(session, exchange, rejection).await;
        }
        (DirectResponse::Blocked(rejection), BlockStyle::Vsr) if !api.generates_text() => {
            return reject(session, exchange, rejection).await;
        }
        (DirectResponse::Fixed(text), _) if !api.generates_text() => {
            return reject(session, exchange, Rejection::FixedText { text }).await;
        }
        (DirectResponse::Fixed(text), _) => {
            (ResponsePath::Fixed, LocalReply::fast(&text, request.model(), now))
        }
        (DirectResponse::Blocked(rejection), BlockStyle::Vsr) => {
            exchange.record.response.error = Some(rejection.reason());
            (ResponsePath::Blocked, blocked_reply(&rejection, exchange, now))
        }
    };
    if request.stream() {
        let text = reply.events(api, request.wants_usage());
        return send_whole(session, exchange, path, "text/event-stream", text).await;
    }
    send_whole(session, exchange, path, "application/json", reply.json(api)).await
}

/// Answers from the response cache: whole, or replayed as a stream if the client asked for one.
pub(super) async fn send_cached(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    api: Api,
    request: &ChatRequest,
    answer: Bytes,
) -> pingora::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let stream = request.stream().then(|| stream_of(&answer, api, request.wants_usage(), now)).flatten();
    let (content_type, text) =
        stream.map_or(("application/json", answer), |stream| ("text/event-stream", stream));
    send_whole(session, exchange, ResponsePath::Cache, content_type, text).await
}

/// Answers with what is known of a response.
pub(super) async fn send_stored(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    reply: StoredReply,
) -> pingora::Result<()> {
    match reply {
        StoredReply::Document(text) => send_json(session, exchange, text).await,
        StoredReply::Stream(text) => {
            send_whole(session, exchange, ResponsePath::Local, "text/event-stream", text).await
        }
    }
}

/// A guard's refusal in the form of vLLM Semantic Router.
fn blocked_reply(rejection: &Rejection, exchange: &Exchange, now: u64) -> LocalReply {
    match rejection {
        Rejection::PersonalData { kinds } => {
            let routing = &exchange.record.routing;
            let named = routing.decision.as_deref().or(routing.model.as_deref()).unwrap_or_default();
            LocalReply::pii(kinds, named, now)
        }
        Rejection::Jailbreak { confidence_bp } => {
            LocalReply::jailbreak("jailbreak", f32::from(*confidence_bp) / 10_000.0, now)
        }
        other => LocalReply::fast(&other.to_string(), "router", now),
    }
}

/// Sends a complete body that no upstream gave.
pub(super) async fn send_whole(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    path: ResponsePath,
    content_type: &'static str,
    text: Bytes,
) -> pingora::Result<()> {
    let mut header = json_header(StatusCode::OK, text.len())?;
    header.insert_header(CONTENT_TYPE, content_type)?;
    stamp(&mut header, exchange, path);
    exchange.answer.bytes += text.len();
    send(session, header, text).await
}

/// Answers with a rejection; `Err` when the client cannot be reached any more.
pub(super) async fn reject(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    rejection: Rejection,
) -> pingora::Result<()> {
    let api = exchange.answer.api;
    let text = api.error_body(&rejection, exchange.record.own_id());
    let mut header = json_header(api.error_status(&rejection), text.len())?;
    if let Some(after) = rejection.retry_after() {
        header.insert_header(RETRY_AFTER, after.as_secs().max(1).to_string())?;
    }
    if let Some(allow) = rejection.allow() {
        header.insert_header(ALLOW, allow)?;
    }
    if let Some(challenge) = rejection.challenge() {
        header.insert_header(WWW_AUTHENTICATE, challenge)?;
    }
    stamp(&mut header, exchange, ResponsePath::Error);
    let unread = !session.is_body_done();
    if unread || rejection == Rejection::BadFraming {
        // What is left of the body would be read as the next request.
        session.set_keepalive(None);
    }
    exchange.answer.bytes += text.len();
    exchange.record_rejection(&rejection);
    if let Err(error) = send(session, header, text).await {
        return Err(RequestFailure::wrap(rejection, error));
    }
    if unread {
        body::drain(session).await;
    }
    Ok(())
}

/// Ends a stream before its time with an error event of its API.
pub(super) async fn end_stream_with_error(
    session: &mut ServerSession,
    exchange: &Exchange,
    rejection: &Rejection,
) {
    let mut event = exchange.answer.api.error_event(rejection, exchange.record.own_id());
    if exchange.replay.as_ref().is_some_and(ReplayHandle::is_inside_event) {
        // The upstream broke off in there.
        event = Bytes::from([b"\n\n", &*event].concat());
    }
    // That the answer is not whole is said below its events too: over HTTP/1.1 by the missing last chunk, over HTTP/2 by
    // the reset that follows what was written to a stream which is dropped unended.
    // A client that has gone meanwhile needs no event.
    let written = session.write_response_body(event, false).await;
    if written.is_ok() && session.is_http2() {
        // The reset would overtake the event. Clients leave at the event, as a rule.
        let _ = tokio::time::timeout(RESET_AFTER, session.read_body_or_idle(true)).await;
    }
}

/// Says what is served.
pub(super) async fn describe(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    asked: Inventory,
) -> pingora::Result<()> {
    let (live, api) = (&exchange.live, exchange.answer.api);
    let text = match asked {
        Inventory::Models => model_list::list(live, api, session.req_header().uri.query()),
        Inventory::Engines => model_list::engines(live),
        Inventory::Version => model_list::version(),
        Inventory::Model(name) => match model_list::card(live, api, &name) {
            Some(text) => text,
            None => return reject(session, exchange, Rejection::UnknownModel { name }).await,
        },
    };
    send_json(session, exchange, text).await
}

async fn send_json(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    text: Vec<u8>,
) -> pingora::Result<()> {
    let mut header = json_header(StatusCode::OK, text.len())?;
    stamp(&mut header, exchange, ResponsePath::Local);
    exchange.answer.bytes += text.len();
    send(session, header, text.into()).await
}

/// Answers a browser that asks whether its page may ask.
pub(super) async fn preflight(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    cors: &Cors,
) -> pingora::Result<()> {
    let is_allowed = exchange.answer.origin.is_some();
    let mut header = cors::preflight_header(session.req_header(), is_allowed, cors)?;
    stamp(&mut header, exchange, ResponsePath::Local);
    send(session, header, Bytes::new()).await
}

/// Answers a browser that asks what its page may, which its route has said.
pub(super) async fn route_preflight(
    session: &mut ServerSession,
    exchange: &mut Exchange,
) -> pingora::Result<()> {
    let mut header = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
    stamp(&mut header, exchange, ResponsePath::Local);
    send(session, header, Bytes::new()).await
}

/// Sends a client elsewhere.
pub(super) async fn redirect(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    answer: &RedirectAnswer,
) -> pingora::Result<()> {
    let mut header = ResponseHeader::build(answer.status, Some(4))?;
    header.insert_header(LOCATION, answer.location.as_str())?;
    header.insert_header(CONTENT_LENGTH, 0)?;
    stamp(&mut header, exchange, ResponsePath::Local);
    send(session, header, Bytes::new()).await
}

fn json_header(status: StatusCode, length: usize) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build(status, Some(8))?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, length.to_string())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    Ok(header)
}

async fn send(session: &mut ServerSession, header: ResponseHeader, text: Bytes) -> pingora::Result<()> {
    session.write_response_header(Box::new(header)).await?;
    let text = if session.req_header().method == Method::HEAD { Bytes::new() } else { text };
    session.write_response_body(text, true).await
}
