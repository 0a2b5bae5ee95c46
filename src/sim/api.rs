//! Paths: what is asked where, who may ask, and the faults that hit before an answer begins.
//! It refuses to know how answers come about.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ask::{Ask, Kind, Streaming};
use super::connection::Cut;
use super::record::{Open, Outcome, Record, Seen};
use super::refusal::Refusal;
use super::run::Run;
use super::schedule::Scheduler;
use super::stats::Stats;
use super::stream::{Telling, cut_off};
use super::wire::Envelope;
use super::words::{Dice, Prompt, ids_of, text_of};
use super::{Faults, Flavour, Options, exposition};

const MAX_BODY_BYTES: usize = 64 << 20;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all requests of one simulated server share.
#[derive(Debug)]
pub(super) struct Engine {
    /// How it was asked to behave.
    pub(super) options: Options,
    /// Who runs and who waits.
    pub(super) scheduler: Arc<Scheduler>,
    /// What is counted.
    pub(super) stats: Stats,
    /// What arrived.
    pub(super) record: Arc<Record>,
    /// When it started, in seconds since 1970.
    pub(super) started: f64,
    faults: RwLock<Faults>,
    context: usize,
    model: String,
    marks: HeaderMap,
    rolls: AtomicU64,
}

impl Engine {
    /// Makes an idle server that listens on `port`.
    pub(super) fn new(options: Options, port: u16) -> Self {
        let scheduler = Scheduler::new(&options);
        let first = options.models.first().map_or("", String::as_str);
        let model = match options.flavour {
            Flavour::Vllm => first.to_owned(),
            Flavour::OpenAi => format!("{first}-2024-07-18"),
        };
        Self {
            context: options.max_model_len.min(scheduler.capacity_tokens()),
            stats: Stats::new(options.max_model_len),
            record: Arc::default(),
            started: since_1970().as_secs_f64(),
            faults: RwLock::new(options.faults),
            marks: marks(&options, port),
            rolls: AtomicU64::new(options.seed),
            scheduler,
            model,
            options,
        }
    }

    /// What goes wrong now.
    pub(super) fn faults(&self) -> Faults {
        *self.faults.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what goes wrong.
    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// By how much times stretch at the present load.
    pub(super) fn stretch(&self) -> f64 {
        let most = self.options.max_num_seqs.saturating_sub(1).max(1) as f64;
        let others = self.scheduler.running().saturating_sub(1) as f64;
        1.0 + (self.options.load_factor - 1.0).max(0.0) * others / most
    }

    fn roll(&self) -> Dice {
        Dice(Dice(self.rolls.fetch_add(1, Ordering::Relaxed)).roll())
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        self.marked(refusal.answer(self.options.flavour))
    }

    fn marked(&self, mut response: Response) -> Response {
        for (name, value) in &self.marks {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// Makes the routes of a flavour.
pub(super) fn router(engine: Arc<Engine>) -> Router {
    let mut router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(text))
        .route("/v1/models", get(models));
    if engine.options.flavour == Flavour::Vllm {
        router = router
            .route("/health", get(health))
            .route("/ping", get(health).post(health))
            .route("/version", get(version))
            .route("/load", get(load))
            .route("/metrics", get(metrics))
            .route("/tokenize", post(tokenize))
            .route("/detokenize", post(detokenize));
    }
    router.fallback(no_path).method_not_allowed_fallback(no_method).with_state(engine)
}

/// A request that was read, noted, let in and spared.
struct Call {
    body: Bytes,
    uri: Uri,
    request_id: Option<String>,
    arrived: Instant,
    faults: Faults,
    cut: Cut,
    open: Open,
}

impl FromRequest<Arc<Engine>> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, engine: &Arc<Engine>) -> Result<Self, Response> {
        let arrived = Instant::now();
        let faults = engine.faults();
        let (parts, body) = request.into_parts();
        let cut = parts.extensions.get::<Cut>().cloned().expect("every connection has its cut");
        let body = read(body).await.map_err(IntoResponse::into_response)?;
        let allowed = engine.options.api_key.as_deref().is_none_or(|key| bears(&parts.headers, key));
        let request_id = parts.headers.get(&X_REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let open = engine.record.note(Seen {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body: body.clone(),
            version: parts.version,
            outcome: Outcome::Open,
        });
        if faults.refuse {
            cut_off(&cut).await;
        }
        if !allowed && parts.uri.path().starts_with("/v1") {
            open.complete();
            return Err(engine.refuse(&Refusal::Unauthorized));
        }
        if !matches!(parts.uri.path(), "/v1/chat/completions" | "/v1/completions") {
            return Ok(Self { body, uri: parts.uri, request_id, arrived, faults, cut, open });
        }
        if let Some(stall) = faults.stall_before_headers {
            tokio::time::sleep(stall).await;
        }
        let mut dice = engine.roll();
        if dice.share() < faults.reset_before_headers {
            cut_off(&cut).await;
        }
        match faults.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            Some(status) if faults.status_share <= 0.0 || dice.share() < faults.status_share => {
                open.complete();
                Err(engine.refuse(&Refusal::Fault(status)))
            }
            _ => Ok(Self { body, uri: parts.uri, request_id, arrived, faults, cut, open }),
        }
    }
}

impl Call {
    fn done(self, engine: &Engine, response: impl IntoResponse) -> Response {
        self.open.complete();
        engine.marked(response.into_response())
    }
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
}

fn bears(headers: &HeaderMap, key: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|given| given.to_str().ok());
    let given = given.and_then(|given| given.split_once(' '));
    given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && given == key)
}

async fn chat(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    complete(engine, Kind::Chat, call).await
}

async fn text(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    complete(engine, Kind::Text, call).await
}

async fn complete(engine: Arc<Engine>, kind: Kind, call: Call) -> Response {
    let ask = match Ask::read(kind, &call.body, &engine.options, engine.context) {
        Ok(ask) => ask,
        Err(refusal) => return call.done(&engine, refusal.answer(engine.options.flavour)),
    };
    let streams = ask.streaming != Streaming::Off;
    let Some(run) = Run::new(Arc::clone(&engine), ask, call.arrived) else {
        engine.stats.turned_away();
        return call.done(&engine, Refusal::Busy.answer(engine.options.flavour));
    };
    let id = call.request_id.unwrap_or_else(|| format!("{:016x}", engine.roll().roll()));
    let created = since_1970().as_secs();
    let envelope = Envelope::new(engine.options.flavour, kind, &id, created, &engine.model);
    let telling = Telling { run, envelope, faults: call.faults, cut: call.cut, open: call.open };
    let mut response = engine.marked(if streams { telling.stream() } else { telling.whole().await });
    if engine.options.flavour == Flavour::OpenAi {
        let taken = call.arrived.elapsed().as_millis() as u64;
        response.headers_mut().insert("openai-processing-ms", HeaderValue::from(taken));
        let id = HeaderValue::try_from(format!("req_{id}"));
        response.headers_mut().insert(X_REQUEST_ID, id.unwrap_or(HeaderValue::from_static("req_")));
    }
    response
}

async fn models(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    let created = since_1970().as_secs();
    let options = &engine.options;
    let models: Vec<Value> = options
        .models
        .iter()
        .map(|model| match options.flavour {
            Flavour::OpenAi => {
                json!({"id": model, "object": "model", "created": created, "owned_by": "system"})
            }
            Flavour::Vllm => json!({
                "id": model, "object": "model", "created": created, "owned_by": "vllm", "root": engine.model,
                "parent": null, "max_model_len": options.max_model_len,
                "permission": [{
                    "id": format!("modelperm-{:016x}", engine.roll().roll()), "object": "model_permission",
                    "created": created, "allow_create_engine": false, "allow_sampling": true,
                    "allow_logprobs": true, "allow_search_indices": false, "allow_view": true,
                    "allow_fine_tuning": false, "organization": "*", "group": null, "is_blocking": false,
                }],
            }),
        })
        .collect();
    call.done(&engine, Json(json!({"object": "list", "data": models})))
}

async fn health(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    let status = if call.faults.unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    call.done(&engine, status)
}

async fn version(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    call.done(&engine, Json(json!({"version": "0.32.0"})))
}

async fn load(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    let load = engine.scheduler.load();
    call.done(&engine, Json(json!({"server_load": load.running + load.waiting})))
}

async fn metrics(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=1.0.0; charset=utf-8");
    let text = exposition::text(&engine);
    call.done(&engine, ([(header::CONTENT_TYPE, kind)], text))
}

async fn tokenize(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    #[derive(Deserialize)]
    struct Body {
        prompt: Option<String>,
    }
    if let Ok(Body { prompt: Some(prompt) }) = serde_json::from_slice(&call.body) {
        let tokens = ids_of(&prompt);
        return call.done(&engine, Json(tokenized(tokens.len(), &tokens, &engine)));
    }
    match Ask::read(Kind::Chat, &call.body, &engine.options, usize::MAX) {
        Ok(ask) => {
            let count = ask.prompts.iter().map(|Prompt { tokens, .. }| tokens).sum();
            call.done(&engine, Json(tokenized(count, &[], &engine)))
        }
        Err(refusal) => call.done(&engine, refusal.answer(engine.options.flavour)),
    }
}

fn tokenized(count: usize, tokens: &[u64], engine: &Engine) -> Value {
    let max_model_len = engine.options.max_model_len;
    json!({"count": count, "max_model_len": max_model_len, "tokens": tokens, "token_strs": null})
}

async fn detokenize(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    #[derive(Deserialize)]
    struct Body {
        tokens: Vec<u64>,
    }
    match serde_json::from_slice::<Body>(&call.body) {
        Ok(body) => call.done(&engine, Json(json!({"prompt": text_of(&body.tokens)}))),
        Err(error) => {
            let refusal = Refusal::Malformed { message: error.to_string(), at: Some("body.tokens") };
            call.done(&engine, refusal.answer(engine.options.flavour))
        }
    }
}

async fn no_path(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    let refusal = Refusal::NoSuchPath(call.uri.path().to_owned());
    call.done(&engine, refusal.answer(engine.options.flavour))
}

async fn no_method(State(engine): State<Arc<Engine>>, call: Call) -> Response {
    call.done(&engine, Refusal::NoSuchMethod.answer(engine.options.flavour))
}

fn marks(options: &Options, port: u16) -> HeaderMap {
    let mut marks = HeaderMap::new();
    let mut mark = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            marks.insert(HeaderName::from_static(name), value);
        }
    };
    match options.flavour {
        Flavour::Vllm => mark("server", "uvicorn"),
        Flavour::OpenAi => {
            mark("openai-organization", "simulated");
            mark("openai-version", "2020-10-01");
        }
    }
    mark("x-inference-pod", &options.pod);
    mark("x-inference-namespace", &options.namespace);
    mark("x-inference-port", &port.to_string());
    marks
}

fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
