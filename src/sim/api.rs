//! The routes, the bearer key, and the faults that strike before an answer begins.
//! It refuses to know how answers are generated.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::completion::Completion;
use super::connection::ResetHandle;
use super::dialects::TranslatedRequest;
use super::engine::{SimEngine, since_1970};
use super::error::SimApiError;
use super::request::{CompletionApi, SimRequest, Streaming};
use super::request_log::{LogGuard, RecordedRequest, SimOutcome};
use super::responder::Responder;
use super::schedule::Load;
use super::tokens::{TokenizedPrompt, ids_of, text_of};
use super::writer::CompletionWriter;
use super::{Faults, Flavour, exposition, transfer};
use crate::openai::Api;

const MAX_BODY_BYTES: usize = 64 << 20;
const LOAD_REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The paths that are answered with generated text.
const GENERATING: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"];

/// Makes the routes of the server's dialect.
pub(super) fn router(engine: Arc<SimEngine>) -> Router {
    let mut router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(text))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models));
    if engine.options.flavour == Flavour::Vllm {
        router = router
            .route("/health", get(health))
            .route("/ping", get(health).post(health))
            .route("/version", get(version))
            .route("/load", get(load))
            .route("/metrics", get(metrics))
            .route("/sleep", post(sleep))
            .route("/wake_up", post(wake_up))
            .route("/is_sleeping", get(is_sleeping))
            .route("/kv_event_sources", get(kv_event_sources))
            .route("/v1/messages", post(messages))
            .route("/v1/messages/count_tokens", post(count_tokens))
            .route("/v1/responses", post(responses))
            .route("/tokenize", post(tokenize))
            .route("/detokenize", post(detokenize))
            .route(transfer::PATH, get(kv_blocks))
            .route(transfer::QUERY_PATH, get(mooncake_ranks));
    }
    router.fallback(no_path).method_not_allowed_fallback(no_method).with_state(engine)
}

/// The form in which a client wants to hear of the load, in a header of its response.
#[derive(Clone, Copy)]
enum LoadReportFormat {
    Text,
    Json,
}

impl LoadReportFormat {
    fn wanted(headers: &HeaderMap) -> Option<Self> {
        match headers.get("endpoint-load-metrics-format")?.as_bytes().to_ascii_lowercase().as_slice() {
            b"text" => Some(Self::Text),
            b"json" => Some(Self::Json),
            _ => None,
        }
    }

    fn report(self, load: Load) -> String {
        let (usage, waiting) = (load.kv_usage, load.waiting as f64);
        match self {
            Self::Text => format!(
                "TEXT named_metrics.kv_cache_usage_perc={usage:?}, named_metrics.num_requests_waiting={waiting:?}"
            ),
            Self::Json => {
                let named = json!({"kv_cache_usage_perc": usage, "num_requests_waiting": waiting});
                format!("JSON {}", json!({"named_metrics": named}))
            }
        }
    }
}

/// A request that passed authentication and the faults before an answer.
struct Call {
    body: Bytes,
    uri: Uri,
    request_id: Option<String>,
    load_report: Option<LoadReportFormat>,
    arrived: Instant,
    faults: Faults,
    reset: ResetHandle,
    log: LogGuard,
}

impl FromRequest<Arc<SimEngine>> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, engine: &Arc<SimEngine>) -> Result<Self, Response> {
        let arrived = Instant::now();
        let faults = engine.faults();
        let (parts, body) = request.into_parts();
        let reset = parts.extensions.get::<ResetHandle>().cloned().expect("every connection has its handle");
        let body = read(body).await.map_err(IntoResponse::into_response)?;
        let allowed = engine.options.api_key.as_deref().is_none_or(|key| has_bearer(&parts.headers, key));
        let request_id = parts.headers.get(&X_REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let load_report = LoadReportFormat::wanted(&parts.headers);
        let log = engine.requests.record(RecordedRequest {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body: body.clone(),
            version: parts.version,
            outcome: SimOutcome::Open,
        });
        if faults.refuse {
            reset.reset().await;
        }
        if !allowed && parts.uri.path().starts_with("/v1") {
            log.complete();
            return Err(engine.error_response(&SimApiError::Unauthorized));
        }
        if !GENERATING.contains(&parts.uri.path()) {
            return Ok(Self { body, uri: parts.uri, request_id, load_report, arrived, faults, reset, log });
        }
        if let Some(stall) = faults.stall_before_headers {
            tokio::time::sleep(stall).await;
        }
        let mut random = engine.random();
        if random.next_share() < faults.reset_before_headers {
            reset.reset().await;
        }
        match faults.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            Some(status) if faults.status_share <= 0.0 || random.next_share() < faults.status_share => {
                log.complete();
                Err(engine.error_response(&SimApiError::Fault(status)))
            }
            _ if faults.busy => {
                engine.stats.rejected();
                log.complete();
                Err(engine.error_response(&SimApiError::Saturated))
            }
            _ => Ok(Self { body, uri: parts.uri, request_id, load_report, arrived, faults, reset, log }),
        }
    }
}

impl Call {
    fn done(self, engine: &SimEngine, response: impl IntoResponse) -> Response {
        self.log.complete();
        engine.with_headers(response.into_response())
    }

    fn refuse(self, engine: &SimEngine, error: &SimApiError) -> Response {
        self.done(engine, error.response(engine.options.flavour))
    }
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
}

fn has_bearer(headers: &HeaderMap, key: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|given| given.to_str().ok());
    let given = given.and_then(|given| given.split_once(' '));
    given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && given == key)
}

async fn chat(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    complete(engine, CompletionApi::Chat, call).await
}

async fn text(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    complete(engine, CompletionApi::Text, call).await
}

async fn embeddings(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    match super::embeddings::embed(&call.body, &engine.options) {
        Ok(answer) => call.done(&engine, Json(answer)),
        Err(error) => call.refuse(&engine, &error),
    }
}

async fn messages(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    translated(engine, Api::Messages, call).await
}

async fn responses(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    translated(engine, Api::Responses, call).await
}

async fn count_tokens(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    translated(engine, Api::CountTokens, call).await
}

/// Answers a request of another dialect by way of Chat's.
async fn translated(engine: Arc<SimEngine>, api: Api, mut call: Call) -> Response {
    let request = match TranslatedRequest::read(api, call.body.clone()) {
        Ok(request) => request,
        Err(refusal) => return call.done(&engine, *refusal),
    };
    call.body = request.body.clone();
    let answer = match api {
        Api::CountTokens => tokenize(State(engine), call).await,
        _ => complete(engine, CompletionApi::Chat, call).await,
    };
    request.answer(answer, since_1970().as_secs())
}

async fn complete(engine: Arc<SimEngine>, api: CompletionApi, call: Call) -> Response {
    let request = match SimRequest::read(api, &call.body, &engine.options, engine.context) {
        Ok(request) => request,
        Err(error) => return call.refuse(&engine, &error),
    };
    engine.until_awake().await;
    let streams = request.streaming != Streaming::Off;
    let Some(completion) = Completion::new(Arc::clone(&engine), request, call.arrived) else {
        engine.stats.rejected();
        return call.refuse(&engine, &SimApiError::Busy);
    };
    let id = call.request_id.unwrap_or_else(|| format!("{:016x}", engine.random().next_u64()));
    let created = since_1970().as_secs();
    let writer = CompletionWriter::new(engine.options.flavour, api, &id, created, &engine.model);
    let responder = Responder { completion, writer, faults: call.faults, reset: call.reset, log: call.log };
    let mut response =
        engine.with_headers(if streams { responder.stream() } else { responder.whole().await });
    if let (Some(format), Flavour::Vllm) = (call.load_report, engine.options.flavour) {
        let report = HeaderValue::try_from(format.report(engine.scheduler.load()));
        response.headers_mut().extend(report.ok().map(|report| (LOAD_REPORT, report)));
    }
    if engine.options.flavour == Flavour::OpenAi {
        let taken = call.arrived.elapsed().as_millis() as u64;
        response.headers_mut().insert("openai-processing-ms", HeaderValue::from(taken));
        let id = HeaderValue::try_from(format!("req_{id}"));
        response.headers_mut().insert(X_REQUEST_ID, id.unwrap_or(HeaderValue::from_static("req_")));
    }
    response
}

async fn models(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
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
                "parent": null, "max_model_len": options.capacity.max_model_len,
                "permission": [{
                    "id": format!("modelperm-{:016x}", engine.random().next_u64()), "object": "model_permission",
                    "created": created, "allow_create_engine": false, "allow_sampling": true,
                    "allow_logprobs": true, "allow_search_indices": false, "allow_view": true,
                    "allow_fine_tuning": false, "organization": "*", "group": null, "is_blocking": false,
                }],
            }),
        })
        .collect();
    call.done(&engine, Json(json!({"object": "list", "data": models})))
}

async fn health(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let status = if call.faults.unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    call.done(&engine, status)
}

async fn version(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    call.done(&engine, Json(json!({"version": "0.32.0"})))
}

async fn load(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let load = engine.scheduler.load();
    call.done(&engine, Json(json!({"server_load": load.running + load.waiting})))
}

async fn metrics(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=1.0.0; charset=utf-8");
    let text = exposition::text(&engine);
    call.done(&engine, ([(header::CONTENT_TYPE, kind)], text))
}

async fn sleep(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let level =
        call.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("level=")));
    engine.sleep.send_replace(if level == Some("2") { 2 } else { 1 });
    call.done(&engine, StatusCode::OK)
}

async fn wake_up(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    engine.sleep.send_replace(0);
    call.done(&engine, StatusCode::OK)
}

async fn is_sleeping(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let is_sleeping = *engine.sleep.borrow() != 0;
    call.done(&engine, Json(json!({"is_sleeping": is_sleeping})))
}

async fn kv_event_sources(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let sources =
        engine.scheduler.publisher.as_ref().map_or_else(|| json!({}), |publisher| publisher.sources());
    call.done(&engine, Json(sources))
}

async fn tokenize(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    #[derive(Deserialize)]
    struct TokenizeBody {
        prompt: Option<String>,
    }
    if let Ok(TokenizeBody { prompt: Some(prompt) }) = serde_json::from_slice(&call.body) {
        let tokens = ids_of(&prompt);
        return call.done(&engine, Json(tokenized(tokens.len(), &tokens, &engine)));
    }
    match SimRequest::read(CompletionApi::Chat, &call.body, &engine.options, usize::MAX) {
        Ok(request) => {
            let tokens: Vec<u64> = request.prompts.iter().flat_map(TokenizedPrompt::ids).collect();
            call.done(&engine, Json(tokenized(tokens.len(), &tokens, &engine)))
        }
        Err(error) => call.refuse(&engine, &error),
    }
}

fn tokenized(count: usize, tokens: &[u64], engine: &SimEngine) -> Value {
    let max_model_len = engine.options.capacity.max_model_len;
    json!({"count": count, "max_model_len": max_model_len, "tokens": tokens, "token_strs": null})
}

async fn detokenize(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    #[derive(Deserialize)]
    struct DetokenizeBody {
        tokens: Vec<u64>,
    }
    match serde_json::from_slice::<DetokenizeBody>(&call.body) {
        Ok(body) => call.done(&engine, Json(json!({"prompt": text_of(&body.tokens)}))),
        Err(error) => {
            let error = SimApiError::Malformed { message: error.to_string(), at: Some("body.tokens") };
            call.refuse(&engine, &error)
        }
    }
}

/// What is kept of a prompt for another engine; asked by engines, so that it is not among the recorded requests.
async fn kv_blocks(State(engine): State<Arc<SimEngine>>, Path(request): Path<String>) -> Response {
    match engine.kept.take(&request) {
        Some(kept) => Json(kept).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Which ranks there are, as Mooncake's bootstrap server says it; asked by engines and those that pair them.
async fn mooncake_ranks(State(engine): State<Arc<SimEngine>>) -> Response {
    Json(engine.kept.ranks()).into_response()
}

async fn no_path(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    let error = SimApiError::NoSuchPath(call.uri.path().to_owned());
    call.refuse(&engine, &error)
}

async fn no_method(State(engine): State<Arc<SimEngine>>, call: Call) -> Response {
    call.refuse(&engine, &SimApiError::NoSuchMethod)
}
