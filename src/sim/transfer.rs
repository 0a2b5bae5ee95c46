//! Prompts that one simulated engine computes and another goes on from, as vLLM's NIXL connector does it: what is kept, for
//! how long, and the fetching. It refuses to know completions; the blocks kept count in no gauge.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::tokens::TokenizedPrompt;

/// The most prompts kept; the oldest goes first.
const MAX_KEPT: usize = 1024;

/// How long the other engine may take to answer.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// Where other engines fetch what is kept.
pub(super) const PATH: &str = "/sim/kv_blocks/{request}";

/// A request's `kv_transfer_params`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TransferParams {
    /// The prompt is to be kept for another engine.
    #[serde(default)]
    pub(super) do_remote_decode: bool,
    /// The prompt is to be fetched from another engine.
    #[serde(default)]
    pub(super) do_remote_prefill: bool,
    remote_request_id: Option<String>,
    remote_block_ids: Option<Value>,
    remote_host: Option<String>,
    remote_port: Option<u16>,
}

/// The prompts that a server keeps for others.
#[derive(Debug)]
pub(super) struct KeptPrompts {
    addr: SocketAddr,
    ttl: Duration,
    kept: Mutex<VecDeque<KeptPrompt>>,
}

#[derive(Debug)]
struct KeptPrompt {
    request: String,
    digest: u64,
    tokens: usize,
    until: Instant,
}

impl KeptPrompts {
    pub(super) fn new(addr: SocketAddr, ttl: Duration) -> Self {
        Self { addr, ttl, kept: Mutex::default() }
    }

    /// Keeps a prompt that fills a block; gives what the next engine is to be told, or null.
    pub(super) fn keep(&self, request: String, prompt: &TokenizedPrompt, block_size: usize) -> Value {
        let blocks = prompt.tokens / block_size.max(1);
        if blocks == 0 {
            return Value::Null;
        }
        let told = json!({
            "do_remote_prefill": true, "do_remote_decode": false,
            "remote_block_ids": [(0..blocks).collect::<Vec<_>>()], "remote_engine_id": format!("sim-{}", self.addr),
            "remote_request_id": request, "remote_host": self.addr.ip().to_string(), "remote_port": self.addr.port(),
            "tp_size": 1,
        });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_KEPT {
            kept.pop_front();
        }
        let until = Instant::now() + self.ttl;
        kept.push_back(KeptPrompt { request, digest: prompt.digest, tokens: prompt.tokens, until });
        told
    }

    /// Gives what is kept for a request, once and in time.
    pub(super) fn take(&self, request: &str) -> Option<Value> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|kept| kept.request == request)?;
        let KeptPrompt { digest, tokens, until, .. } = kept.remove(place)?;
        (until > Instant::now()).then(|| json!({"digest": digest, "tokens": tokens}))
    }
}

impl TransferParams {
    /// Fetches a prompt from where it is kept; gives its tokens, 0 where it is not there or another prompt.
    pub(super) async fn fetch(&self, prompt: &TokenizedPrompt) -> usize {
        let has_blocks =
            self.remote_block_ids.as_ref().and_then(Value::as_array).is_some_and(|ids| !ids.is_empty());
        if !self.do_remote_prefill || !has_blocks {
            return 0;
        }
        let fetched = timeout(FETCH_TIME, self.fetch_kept()).await.ok().flatten();
        let kept = fetched.filter(|kept| kept["digest"] == prompt.digest);
        kept.and_then(|kept| kept["tokens"].as_u64()).unwrap_or(0) as usize
    }

    async fn fetch_kept(&self) -> Option<Value> {
        let (host, port) = (self.remote_host.as_deref()?, self.remote_port?);
        let request = self.remote_request_id.as_deref()?;
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        let path = PATH.replace("{request}", request);
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(4 << 10).read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).ok()).flatten()
    }
}
