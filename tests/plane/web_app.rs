//! An upstream that is no inference server: it tells in its answer what it was asked.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server.
pub(crate) struct WebApp {
    pub(crate) addr: SocketAddr,
    seen: Seen,
    server: JoinHandle<()>,
}

/// Every request: its method, its target, its headers, and its body once that has come whole.
type Seen = Arc<Mutex<Vec<Value>>>;

impl WebApp {
    /// Starts one that names itself in its answers.
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Seen::default());
        let app = Router::new().fallback(answer).with_state((name.to_owned(), Arc::clone(&seen)));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, seen, server }
    }

    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for WebApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers as the request's headers ask: `x-status` and `x-wait` (milliseconds), a body in pieces as they come for `x-echo`,
/// and in so many pieces of its own, a tenth of a second apart, for `x-drip`.
async fn answer(State((name, seen)): State<(String, Seen)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let said = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let number = |name: &str| said(name).and_then(|value| value.parse::<u64>().ok());
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let mut told = json!({
        "app": name,
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().map_or("", |target| target.as_str()),
        "headers": headers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    if said("x-echo").is_some() {
        seen.lock().unwrap().push(told);
        let pieces = body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
        return Body::from_stream(pieces).into_response();
    }
    if let Some(pieces) = number("x-drip") {
        seen.lock().unwrap().push(told);
        let piece = |left: u64| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (left > 0).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"drop ")), left - 1))
        };
        return Body::from_stream(futures::stream::unfold(pieces, piece)).into_response();
    }
    let body: Bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
    told["length"] = body.len().into();
    told["body"] = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned().into();
    seen.lock().unwrap().push(told.clone());
    if let Some(wait) = number("x-wait") {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let status = number("x-status").and_then(|status| StatusCode::from_u16(status as u16).ok());
    let status = status.unwrap_or(StatusCode::OK);
    let cookies =
        [("set-cookie", "session=1"), ("x-selected-model", "forged"), ("content-type", "application/json")];
    (status, cookies, told.to_string()).into_response()
}
