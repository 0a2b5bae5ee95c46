//! Owns the answers of our own and the headers that say why, on every answer.
//!
//! Decides nothing: it says what the exchange knows.

use super::body;
use super::exchange::Exchange;
use super::peer::{X_REQUEST_ID, forged};
use crate::openai::{Api, ChatRequest, LocalReply, Rejection, stream_of};
use crate::policy::{BlockStyle, Model};
use crate::record::Beside;
use crate::route::Answer;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where an answer came from, as `x-vsr-response-path` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// An upstream's answer.
    Upstream,
    /// An answer of our own that is no error.
    Local,
    /// An answer that was kept.
    Cache,
    /// The operator's fixed words.
    Fixed,
    /// A refusal by a guard.
    Blocked,
    /// A rejection.
    Error,
}

impl Path {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Path::Upstream => "upstream",
            Path::Local => "local",
            Path::Cache => "cache",
            Path::Fixed => "fast_response",
            Path::Blocked => "blocked",
            Path::Error => "error",
        }
    }
}

/// Says on an answer which model gave it and why, and removes what an upstream may have said of that.
///
/// The names go out in lower case, but for the commonest: to keep each as it came, Pingora has a second map, in which
/// every request would pay for each header again.
pub(super) fn stamp(response: &mut ResponseHeader, exchange: &mut Exchange, path: Path) {
    let blank = ResponseHeader::from(http::Response::new(()).into_parts().0);
    let given = std::mem::replace(response, blank);
    let reason = given.get_reason_phrase().filter(|reason| Some(*reason) != given.status.canonical_reason());
    let reason = reason.map(str::to_owned);
    let mut parts = Parts::from(given);
    let headers = &mut parts.headers;
    for name in forged(headers) {
        headers.remove(&name);
    }
    exchange.record.answered.response_path = path.as_str();
    exchange.record.answered.status = parts.status.as_u16();
    let chosen = &exchange.record.chosen;
    put(headers, X_REQUEST_ID, Some(&exchange.record.request_id));
    let path_value = HeaderValue::from_static(path.as_str());
    headers.insert(const { named("x-vsr-response-path") }, path_value);
    put(headers, const { named("x-vsr-selected-model") }, chosen.model.as_deref());
    put(headers, const { named("x-vsr-selected-category") }, chosen.category.as_deref());
    put(headers, const { named("x-vsr-selected-decision") }, chosen.decision.as_deref());
    if let Some(reason) = chosen.reason {
        headers.insert(const { named("x-vsr-selected-reason") }, HeaderValue::from_static(reason));
    }
    if let Some(beside) = &chosen.beside {
        stamp_beside(headers, beside, path);
        if exchange.debug {
            stamp_signals(headers, beside);
        }
    }
    *response = parts.into();
    if reason.is_some() {
        // Infallible in this version of Pingora.
        let _ = response.set_reason_phrase(reason.as_deref());
    }
}

const fn named(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// Sets a header; a name of the policy that is no header value is left out, the log still has it.
fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// What says that an answer needs facts and that there was nothing to check it against.
const UNVERIFIED: [(&str, &str); 4] = [
    ("x-vsr-unverified-factual-response", "true"),
    ("x-vsr-fact-check-needed", "true"),
    ("x-vsr-verification-context-missing", "true"),
    ("x-vsr-response-warnings", "unverified_factual"),
];

/// Says what else there is to say of a request.
fn stamp_beside(headers: &mut HeaderMap, beside: &Beside, path: Path) {
    let score = beside.score.map(|score| format!("{score:.4}"));
    let similarity = beside.cache_similarity.map(|score| format!("{score:.4}"));
    let jailbreak = beside.jailbreak.map(|score| format!("{score:.3}"));
    let pii = beside.pii.join(",");
    let by = |guard: &str| beside.blocked == Some(guard);
    let is_on = |reasoning: &str| if reasoning == "off" { "off" } else { "on" };
    let stamps = [
        ("x-vsr-selected-recipe", beside.recipe.as_deref()),
        ("x-vsr-selected-confidence", score.as_deref()),
        ("x-vsr-selected-algorithm", beside.algorithm),
        ("x-vsr-selected-reasoning", beside.reasoning.map(is_on)),
        ("x-vsr-injected-system-prompt", beside.system_prompt.map(|_| "true")),
        ("x-vsr-cache-hit", (path == Path::Cache).then_some("true")),
        ("x-vsr-cache-similarity", similarity.as_deref().filter(|_| path == Path::Cache)),
        ("x-vsr-fast-response", (path == Path::Fixed).then_some("true")),
        ("x-vsr-jailbreak-blocked", by("jailbreak").then_some("true")),
        ("x-vsr-jailbreak-type", by("jailbreak").then_some("jailbreak")),
        ("x-vsr-jailbreak-confidence", jailbreak.as_deref().filter(|_| by("jailbreak"))),
        ("x-vsr-pii-violation", by("personal_data").then_some("true")),
        ("x-vsr-pii-types", by("personal_data").then_some(pii.as_str())),
    ];
    let is_unverified = beside.unverified_factual == Some(true) && path == Path::Upstream;
    let stamps =
        stamps.into_iter().chain(UNVERIFIED.map(|(name, value)| (name, is_unverified.then_some(value))));
    for (name, value) in stamps {
        put(headers, named(name), value);
    }
}

/// Says which signals matched, kind by kind, for callers who may know.
fn stamp_signals(headers: &mut HeaderMap, beside: &Beside) {
    let mut kinds: Vec<&'static str> = beside.signals.iter().map(|signal| signal.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let matching = beside.signals.iter().filter(|signal| signal.kind == kind);
        let names: Vec<String> =
            matching.map(|signal| format!("{}={:.4}", signal.name, signal.score)).collect();
        let name = format!("x-vsr-matched-{}", kind.replace('_', "-"));
        if let Ok(name) = name.parse() {
            put(headers, name, Some(&names.join(",")));
        }
    }
}

/// Answers with words of our own, as the API and the client's wish for a stream have it.
pub(super) async fn say(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    (api, request): (Api, &ChatRequest),
    answer: Answer,
) -> pingora::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if let Answer::Blocked(rejection) = &answer {
        exchange.record.chosen.beside().blocked = Some(rejection.reason());
    }
    let (path, reply) = match (answer, exchange.live.policy.block_style) {
        (Answer::Rejected(rejection), _) | (Answer::Blocked(rejection), BlockStyle::Error) => {
            return reject(session, exchange, rejection).await;
        }
        (Answer::Fixed(text), _) => (Path::Fixed, LocalReply::fast(&text, request.model(), now)),
        (Answer::Blocked(rejection), BlockStyle::Vsr) => {
            exchange.record.answered.error = Some(rejection.reason());
            (Path::Blocked, blocked(&rejection, exchange, now))
        }
    };
    if request.stream() {
        let text = reply.events(api, request.wants_usage());
        return whole(session, exchange, path, ("text/event-stream", text)).await;
    }
    whole(session, exchange, path, ("application/json", reply.json(api))).await
}

/// Gives an answer that was given before: whole, or as a stream to whoever wants one.
pub(super) async fn again(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    (api, request): (Api, &ChatRequest),
    answer: Bytes,
) -> pingora::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let stream = request.stream().then(|| stream_of(&answer, api, request.wants_usage(), now)).flatten();
    let told = stream.map_or(("application/json", answer), |stream| ("text/event-stream", stream));
    whole(session, exchange, Path::Cache, told).await
}

/// A refusal by a guard in the words of vLLM Semantic Router.
fn blocked(rejection: &Rejection, exchange: &Exchange, now: u64) -> LocalReply {
    match rejection {
        Rejection::PersonalData { kinds } => {
            let chosen = &exchange.record.chosen;
            let named = chosen.decision.as_deref().or(chosen.model.as_deref()).unwrap_or_default();
            LocalReply::pii(kinds, named, now)
        }
        Rejection::Jailbreak { confidence_bp } => {
            LocalReply::jailbreak("jailbreak", f32::from(*confidence_bp) / 10_000.0, now)
        }
        other => LocalReply::fast(&other.to_string(), "router", now),
    }
}

/// Answers with a whole text of a type, which no upstream gave.
pub(super) async fn whole(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    path: Path,
    (content_type, text): (&'static str, Bytes),
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
