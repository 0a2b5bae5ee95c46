//! Prompts that one simulated engine computes and another goes on from, as vLLM's connectors do it (NIXL, Mooncake, offloading)
//! and `SGLang`'s engines: what is kept, for how long, and the fetching. It refuses to know completions; the blocks kept count
//! in no gauge.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::tokens::TokenizedPrompt;

/// The most prompts kept; the oldest goes first.
const MAX_KEPT: usize = 1024;

/// How long the other engine may take to answer.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// Where other engines fetch what is kept.
pub(super) const PATH: &str = "/sim/kv_blocks/{request}";

/// Where Mooncake's bootstrap server says which ranks there are.
pub(super) const QUERY_PATH: &str = "/query";

/// How often an engine of `SGLang`'s looks whether the other has come.
const MEETING_LOOK: Duration = Duration::from_millis(5);

/// A request's `kv_transfer_params`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TransferParams {
    /// The prompt is to be kept for another engine.
    do_remote_decode: bool,
    /// The prompt is to be fetched from another engine.
    do_remote_prefill: bool,
    /// What Mooncake's connector calls the prompt.
    transfer_id: Option<String>,
    remote_bootstrap_addr: Option<String>,
    remote_engine_id: Option<String>,
    remote_request_id: Option<String>,
    remote_block_ids: Option<Value>,
    remote_host: Option<String>,
    remote_port: Option<u16>,
    /// The offloading connector is to keep the prompt for a peer.
    remote_decoder: Option<TransferPeer>,
    /// It is to fetch the prompt from a peer.
    remote_prefiller: Option<TransferPeer>,
}

/// What the offloading connector is told of a peer.
#[derive(Debug, Deserialize)]
struct TransferPeer {
    kv_request_id: String,
    remote_host: Option<String>,
    remote_port: Option<u16>,
}

/// Which of `SGLang`'s engines, which meet over each request, a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SglangRole {
    /// Computes prompts.
    Prefill,
    /// Answers.
    Decode,
}

/// Where two of `SGLang`'s engines meet.
#[derive(Debug, Deserialize)]
pub(super) struct MeetingRoom {
    #[serde(rename = "bootstrap_host")]
    host: String,
    #[serde(rename = "bootstrap_port")]
    port: u16,
    #[serde(rename = "bootstrap_room")]
    room: u64,
}

/// What has become of a completion whose prompt may be kept.
#[derive(Clone, Copy)]
pub(super) struct EndedPrompt<'a> {
    pub(super) prompt: &'a TokenizedPrompt,
    /// Whether the answer ended at its limit.
    pub(super) is_cut: bool,
    pub(super) block_size: usize,
    /// What NIXL's connector calls it.
    pub(super) request: &'a str,
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

    /// Keeps a prompt as a request asks for; gives what the next engine is to be told, or null.
    pub(super) fn keep(&self, params: &TransferParams, ended: EndedPrompt<'_>) -> Value {
        let EndedPrompt { prompt, is_cut, block_size, request } = ended;
        let blocks = prompt.tokens / block_size.max(1);
        if let Some(peer) = &params.remote_decoder {
            self.keep_as(peer.kv_request_id.clone(), prompt);
            return Value::Null;
        }
        if !params.do_remote_decode || !is_cut || blocks == 0 {
            return Value::Null;
        }
        if let Some(transfer) = &params.transfer_id {
            self.keep_as(transfer.clone(), prompt);
            return Value::Null;
        }
        self.keep_as(request.to_owned(), prompt);
        json!({
            "do_remote_prefill": true, "do_remote_decode": false,
            "remote_block_ids": [(0..blocks).collect::<Vec<_>>()], "remote_engine_id": self.engine_id(),
            "remote_request_id": request, "remote_host": self.addr.ip().to_string(), "remote_port": self.addr.port(),
            "tp_size": 1,
        })
    }

    /// Keeps a prompt for the engine of `SGLang`'s that comes to a room, and waits for it.
    pub(super) async fn wait_in(&self, room: &MeetingRoom, prompt: &TokenizedPrompt) {
        let room = room.room.to_string();
        self.keep_as(room.clone(), prompt);
        while self.lock().iter().any(|kept| kept.request == room) {
            sleep(MEETING_LOOK).await;
        }
    }

    /// What Mooncake's bootstrap server says of the ranks behind it.
    pub(super) fn ranks(&self) -> Value {
        json!({"0": {"engine_id": self.engine_id(), "worker_addr": {"0": {"0": format!("tcp://{}", self.addr)}}}})
    }

    fn engine_id(&self) -> String {
        format!("sim-{}", self.addr)
    }

    fn keep_as(&self, request: String, prompt: &TokenizedPrompt) {
        let mut kept = self.lock();
        if kept.len() == MAX_KEPT {
            kept.pop_front();
        }
        let until = Instant::now() + self.ttl;
        kept.push_back(KeptPrompt { request, digest: prompt.digest, tokens: prompt.tokens, until });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<KeptPrompt>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what is kept for a request, once and in time.
    pub(super) fn take(&self, request: &str) -> Option<Value> {
        let mut kept = self.lock();
        let place = kept.iter().position(|kept| kept.request == request)?;
        let KeptPrompt { digest, tokens, until, .. } = kept.remove(place)?;
        (until > Instant::now()).then(|| json!({"digest": digest, "tokens": tokens}))
    }
}

impl TransferParams {
    /// Fetches a prompt from where it is kept; gives its tokens, 0 where it is not there or another prompt.
    pub(super) async fn fetch(&self, prompt: &TokenizedPrompt) -> usize {
        let Some((from, request)) = self.source() else { return 0 };
        let fetched = timeout(FETCH_TIME, fetch_kept(&from, request)).await.ok().flatten();
        tokens_of(fetched, prompt).unwrap_or(0)
    }

    /// Where the prompt is kept, and as what.
    fn source(&self) -> Option<(String, &str)> {
        if let Some(TransferPeer { kv_request_id, remote_host, remote_port }) = &self.remote_prefiller {
            return Some((authority(remote_host.as_deref()?, (*remote_port)?), kv_request_id));
        }
        if !self.do_remote_prefill {
            return None;
        }
        if let Some(transfer) = &self.transfer_id {
            let server = self.remote_bootstrap_addr.as_deref()?.strip_prefix("http://")?;
            let is_known = self.remote_engine_id.as_deref() == Some(&format!("sim-{server}"));
            return is_known.then(|| (server.to_owned(), transfer.as_str()));
        }
        let blocks = self.remote_block_ids.as_ref().and_then(Value::as_array);
        blocks.filter(|ids| !ids.is_empty())?;
        let from = authority(self.remote_host.as_deref()?, self.remote_port?);
        Some((from, self.remote_request_id.as_deref()?))
    }
}

impl MeetingRoom {
    /// Waits for the prompt that the other engine computes, for as long as it takes; gives its tokens.
    pub(super) async fn fetch(&self, prompt: &TokenizedPrompt) -> usize {
        let (from, room) = (authority(&self.host, self.port), self.room.to_string());
        loop {
            if let Some(tokens) = tokens_of(fetch_kept(&from, &room).await, prompt) {
                return tokens;
            }
            sleep(MEETING_LOOK).await;
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The tokens of what was kept, if it is this prompt.
fn tokens_of(kept: Option<Value>, prompt: &TokenizedPrompt) -> Option<usize> {
    let kept = kept.filter(|kept| kept["digest"] == prompt.digest)?;
    Some(kept["tokens"].as_u64()? as usize)
}

async fn fetch_kept(from: &str, request: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(from).await.ok()?;
    let path = PATH.replace("{request}", request);
    let head = format!("GET {path} HTTP/1.1\r\nhost: {from}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(4 << 10).read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).ok()).flatten()
}
