//! Owns the answers of our own and the headers that say why, on every answer.
//!
//! Decides nothing: it says what the exchange knows.

use super::body;
use super::exchange::Exchange;
use super::peer::forged;
use crate::openai::Rejection;
use crate::policy::Model;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use serde::Serialize;

/// Where an answer came from, as `x-vsr-response-path` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// An upstream's answer.
    Upstream,
    /// An answer of our own that is no error.
    Local,
    /// A rejection.
    Error,
}

impl Path {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Path::Upstream => "upstream",
            Path::Local => "local",
            Path::Error => "error",
        }
    }
}

/// Says on an answer which model gave it and why, and removes what an upstream may have said of that.
pub(super) fn stamp(response: &mut ResponseHeader, exchange: &mut Exchange, path: Path) {
    for name in forged(&response.headers) {
        response.remove_header(&name);
    }
    exchange.record.answered.response_path = path.as_str();
    exchange.record.answered.status = response.status.as_u16();
    let chosen = &exchange.record.chosen;
    let stamps = [
        ("x-request-id", Some(exchange.record.request_id.as_str())),
        ("x-vsr-response-path", Some(path.as_str())),
        ("x-vsr-selected-model", chosen.model.as_deref()),
        ("x-vsr-selected-category", chosen.category.as_deref()),
        ("x-vsr-selected-decision", chosen.decision.as_deref()),
        ("x-vsr-selected-reason", chosen.reason),
    ];
    for (name, value) in stamps {
        if let Some(value) = value {
            // A name of the policy that is no header value is left out; the log still has it.
            let _ = response.insert_header(name, value);
        }
    }
}

/// Answers with a rejection; `Err` when the client cannot be reached any more.
pub(super) async fn reject(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    rejection: Rejection,
) -> pingora::Result<()> {
    let mut header = json_header(rejection.status(), rejection.body().len())?;
    if let Some(after) = rejection.retry_after() {
        header.insert_header(RETRY_AFTER, after.as_secs().max(1).to_string())?;
    }
    if let Some(allow) = rejection.allow() {
        header.insert_header(ALLOW, allow)?;
    }
    stamp(&mut header, exchange, Path::Error);
    let unread = !session.is_body_done();
    if unread || rejection == Rejection::BadFraming {
        // What is left of the body would be read as the next request.
        session.set_keepalive(None);
    }
    let text = rejection.body();
    exchange.answer.bytes += text.len();
    exchange.answer.rejection = Some(rejection);
    send(session, header, text).await?;
    if unread {
        body::drain(session).await;
    }
    Ok(())
}

/// Ends a stream that its upstream has broken off with an event that says so.
pub(super) async fn break_off(session: &mut ServerSession, rejection: &Rejection) {
    // Over HTTP/2 the stream must end with the event, or a reset would overtake it. Over HTTP/1.1 the missing
    // last chunk says that the answer is not whole.
    let end = session.is_http2();
    // A client that has gone meanwhile needs no event.
    let _ = session.write_response_body(rejection.event(), end).await;
}

/// Answers `GET /v1/models`.
pub(super) async fn models(session: &mut ServerSession, exchange: &mut Exchange) -> pingora::Result<()> {
    let live = &exchange.live;
    let own = live.policy.virtual_models().map(|name| Card::new(live, name, "signalbox"));
    let named = live.policy.models.iter().map(|model| Card::new(live, &model.name, owner(model)));
    let list = List { object: "list", data: own.chain(named).collect() };
    let text = serde_json::to_vec(&list).unwrap_or_default();
    answer(session, exchange, text).await
}

/// Answers `GET /v1/models/{name}`.
pub(super) async fn model(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    name: String,
) -> pingora::Result<()> {
    let policy = &exchange.live.policy;
    let owner = match policy.model(&name) {
        Some(id) => Some(owner(&policy[id])),
        None => policy.recipe(&name).is_some().then_some("signalbox"),
    };
    let Some(owner) = owner else {
        return reject(session, exchange, Rejection::UnknownModel { name }).await;
    };
    let text = serde_json::to_vec(&Card::new(&exchange.live, &name, owner)).unwrap_or_default();
    answer(session, exchange, text).await
}

fn owner(model: &Model) -> &str {
    model.owned_by.as_deref().unwrap_or("signalbox")
}

async fn answer(session: &mut ServerSession, exchange: &mut Exchange, text: Vec<u8>) -> pingora::Result<()> {
    let mut header = json_header(StatusCode::OK, text.len())?;
    stamp(&mut header, exchange, Path::Local);
    exchange.answer.bytes += text.len();
    send(session, header, text.into()).await
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
    session.write_response_body(text, true).await
}

/// A model as OpenAI's API shows it.
#[derive(Serialize)]
struct Card<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

impl<'a> Card<'a> {
    fn new(live: &Snapshot, id: &'a str, owned_by: &'a str) -> Self {
        Self { id, object: "model", created: live.built_at, owned_by }
    }
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Card<'a>>,
}
