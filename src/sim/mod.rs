//! A vLLM that isn't: the same API, metrics, queue and KV-cache behaviour, with made-up words at a chosen pace.
//! It owns everything between the socket and the response; it refuses to know the gateway, and prints nothing.
//!
//! | file | what |
//! | --- | --- |
//! | `connection` | sockets, TLS, HTTP/1.1 and h2c on one port, resets |
//! | `api` | routes, the bearer key, faults before an answer |
//! | `request` · `error` | request bodies · error responses |
//! | `engine` · `schedule` · `queue` · `kv` | shared state · running and waiting requests · their blocks |
//! | `tokens` · `generation` | prompts as tokens · generated texts |
//! | `kv_events` | what is said of blocks, over `ZeroMQ` |
//! | `transfer` | prompts that one engine computes for another |
//! | `completion` · `responder` · `writer` | a completion over time · as a response · as bytes |
//! | `stats` · `exposition` · `request_log` | counters · `/metrics` · the latest requests |
//!
//! # What is simulated
//!
//! * A token is a piece of a word (`tokens`); an answer is as long as `default_max_tokens` says (`finish_reason`
//!   `stop`), unless `max_tokens` is smaller (`length`) or `ignore_eos` asks for exactly `max_tokens`.
//! * At most `max_num_seqs` requests run; the others wait in their order, and beyond `max_waiting` there is 429.
//!   A request with `n` or several prompts takes one slot.
//! * The first token comes after `(ttft + prefill_per_token · (prompt − cached)) · f`, each further one after
//!   `itl · f`, with `f = 1 + (F − 1)(running − 1)/(max_num_seqs − 1)`. Without these times no timer is touched.
//! * Blocks are reference-counted, named by chained hashes and evicted least recently used, tail first. The blocks
//!   of an answer are promised when it starts, so that nothing is ever preempted; `kv_cache_usage_perc` shows only
//!   those in use.
//! * With `kv_transfer_params` a prompt is computed by one and answered by another, as with vLLM's connectors for NIXL,
//!   Mooncake and offloading (whose servers are the same port): the first keeps the prompt, the second fetches it there,
//!   once and in time, and else computes it itself. What is kept counts in no gauge and is evicted by nothing but its age.
//! * Two of `SGLang`'s engines meet in a `bootstrap_room`: neither answers before the other has come, and each refuses a
//!   request without a room.
//! * A client that disconnects frees its slot and its blocks at once, and counts as `finished_reason="abort"`.
//!
//! # How it compares with the real one
//!
//! `tests/real/compare_vllm.py` asks a real vLLM 0.32.0 on CPU and this one the same 54 requests and compares status,
//! header fields, keys with their order and types, the sequence of events, error texts and the families, labels and
//! buckets of `/metrics`. What it found has been adopted: the head of a stream goes out before its turn has come;
//! a conversation's stream opens with an event of its own; `max_tokens` beyond what the prompt leaves is cut, not
//! refused; `created_cache_tokens` is a number in chats and null in completions; of a stream only the last event has a
//! `system_fingerprint`; `/metrics` calls itself version 1.0.0 and `admission_rejections_total` has no engine.
//! What still differs:
//!
//! * For a full queue vLLM (`--max-num-queued-reqs`) answers 503; this one answers 429, as llm-d's simulator does, unless
//!   the fault `busy` is set.
//! * `/sleep`, `/wake_up` and `/is_sleeping` are always there (vLLM: in its development mode); requests to a sleeping engine
//!   wait until it is woken.
//! * Malformed bodies get the same status, type and shape, but serde's words instead of pydantic's.
//! * `HEAD` is answered wherever `GET` is (vLLM: 405); tools are ignored (vLLM without a parser: 400).
//! * `prompt_tokens_details` is always there (vLLM: with `--enable-prompt-tokens-details`), and so are
//!   `x-inference-pod`, `-namespace` and `-port` (llm-d's simulator).
//! * `/metrics` leaves out the Python process, its web server, and features that are not simulated; a request is one
//!   in the gauges even with `n` or several prompts.

mod api;
mod completion;
mod connection;
mod dialects;
mod embeddings;
mod engine;
mod error;
mod exposition;
mod generation;
mod kv;
mod kv_events;
mod queue;
mod request;
mod request_log;
mod responder;
mod schedule;
mod stats;
mod structured;
#[cfg(test)]
mod tests;
pub mod tls;
mod tokens;
mod transfer;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use request_log::{RecordedRequest, SimOutcome};
pub use transfer::SglangRole;

/// Which server is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// vLLM 0.32 behind uvicorn.
    Vllm,
    /// The OpenAI platform: no paths but `/v1`, a dated model name, `openai-*` header fields.
    OpenAi,
}

/// How a simulated server behaves; the default is an idle, immediate `llama3-8b`.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// The served names: all are accepted, responses name the first.
    pub models: Vec<String>,
    /// How fast it is.
    pub latency: SimLatency,
    /// How much it holds.
    pub capacity: SimCapacity,
    /// Sent as `x-inference-pod`.
    pub pod: String,
    /// Sent as `x-inference-namespace`.
    pub namespace: String,
    /// The bearer key required under `/v1`.
    pub api_key: Option<String>,
    /// Which server is simulated.
    pub flavour: Flavour,
    /// What goes wrong from the start.
    pub faults: Faults,
    /// What texts, ids and shares of faults are derived from.
    pub seed: u64,
    /// The length in tokens at which an answer ends by itself.
    pub default_max_tokens: usize,
    /// Whether what changes in its KV cache is published: see [`Sim::serve_kv_events`].
    pub kv_events: bool,
    /// Which of `SGLang`'s engines it is that compute prompts and answers apart; `None` for one that does both.
    pub sglang: Option<SglangRole>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            models: vec!["llama3-8b".to_owned()],
            latency: SimLatency::default(),
            capacity: SimCapacity::default(),
            pod: "sim-0".to_owned(),
            namespace: "default".to_owned(),
            api_key: None,
            flavour: Flavour::Vllm,
            faults: Faults::default(),
            seed: 0,
            default_max_tokens: 64,
            kv_events: false,
            sglang: None,
        }
    }
}

/// How fast a simulated server is; the default is immediate.
#[derive(Debug, Clone, Copy)]
pub struct SimLatency {
    /// Time to the first token of an empty prompt on an idle server.
    pub ttft: Duration,
    /// Time between two tokens on an idle server.
    pub itl: Duration,
    /// Time to compute one prompt token that is not cached.
    pub prefill_per_token: Duration,
    /// Time to fetch one prompt token that another server has computed.
    pub transfer_per_token: Duration,
    /// How long a prompt is kept for another server.
    pub transfer_timeout: Duration,
    /// By how much times stretch on a full server, at least 1.
    pub load_factor: f64,
}

impl Default for SimLatency {
    fn default() -> Self {
        let zero = Duration::ZERO;
        Self {
            ttft: zero,
            itl: zero,
            prefill_per_token: zero,
            transfer_per_token: zero,
            transfer_timeout: Duration::from_secs(480),
            load_factor: 1.0,
        }
    }
}

/// How much a simulated server holds.
#[derive(Debug, Clone, Copy)]
pub struct SimCapacity {
    /// How many requests run at once.
    pub max_num_seqs: usize,
    /// How many requests may wait.
    pub max_waiting: usize,
    /// The context length in tokens; what all blocks hold bounds it too.
    pub max_model_len: usize,
    /// Tokens in a KV block.
    pub block_size: usize,
    /// KV blocks.
    pub kv_blocks: usize,
    /// Whether blocks are reused between requests.
    pub prefix_caching: bool,
}

impl Default for SimCapacity {
    fn default() -> Self {
        Self {
            max_num_seqs: 256,
            max_waiting: 1000,
            max_model_len: 8192,
            block_size: 16,
            kv_blocks: 16_384,
            prefix_caching: true,
        }
    }
}

/// What goes wrong; all but `refuse` and `unhealthy` concern only the two completion paths.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "faults come one without another")]
pub struct Faults {
    /// Connections are reset as soon as they are accepted, open ones at their next request.
    pub refuse: bool,
    /// The share of requests, `0..=1`, whose connection is reset instead of answered.
    pub reset_before_headers: f64,
    /// Connections are reset after so many events of a stream, or amid the body of an answer that is none.
    pub reset_mid_stream: Option<usize>,
    /// The status answered instead.
    pub status: Option<u16>,
    /// The share of requests, `0..=1`, to which `status` is answered; 0 means all.
    pub status_share: f64,
    /// How long to stay silent before anything is answered.
    pub stall_before_headers: Option<Duration>,
    /// How long to stay silent after the first token of a stream.
    pub stall_mid_stream: Option<Duration>,
    /// `/health` answers 503.
    pub unhealthy: bool,
    /// No token comes any more, of those that run neither, while requests are taken and all else is answered.
    pub wedged: bool,
    /// Requests are refused as by an engine whose queue is full: vLLM's `--max-num-queued-reqs`.
    pub busy: bool,
}

/// A running simulated server; dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Sim {
    engine: Arc<engine::SimEngine>,
    addr: SocketAddr,
    task: JoinHandle<()>,
    events: Vec<JoinHandle<()>>,
}

impl Sim {
    /// Starts serving on a bound listener, over TLS where a configuration is given.
    ///
    /// # Panics
    ///
    /// When the listener has no local address.
    #[expect(
        clippy::unused_async,
        reason = "it must be called on a runtime, which an async function ensures"
    )]
    pub async fn start(
        options: SimOptions,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let addr = listener.local_addr().expect("a bound listener has an address");
        let engine = Arc::new(engine::SimEngine::new(options, addr));
        let router = api::router(Arc::clone(&engine));
        let task = tokio::spawn(connection::serve(Arc::clone(&engine), router, listener, tls));
        Self { engine, addr, task, events: Vec::new() }
    }

    /// Serves its KV events to subscribers on one listener, and those that were missed on the other; nothing where its
    /// options have no `kv_events`.
    pub fn serve_kv_events(&mut self, events: TcpListener, replays: Option<TcpListener>) {
        let Some(publisher) = &self.engine.scheduler.publisher else { return };
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |addr| addr.port());
        publisher.set_ports(port(&events), replays.as_ref().map(port));
        self.events.push(tokio::spawn(Arc::clone(publisher).serve(events)));
        let replays = replays.map(|replays| tokio::spawn(Arc::clone(publisher).serve_replays(replays)));
        self.events.extend(replays);
    }

    /// Ends the serving of its KV events, with the connections of those who listen.
    pub async fn stop_kv_events(&mut self) {
        for task in std::mem::take(&mut self.events) {
            task.abort();
            // The only possible error is the cancellation just asked for.
            drop(task.await);
        }
    }

    /// Whether KV events are numbered and kept, but reach no subscriber.
    pub fn mute_kv_events(&self, is_muted: bool) {
        if let Some(publisher) = &self.engine.scheduler.publisher {
            publisher.mute(is_muted);
        }
    }

    /// Publishes any bytes among its KV events.
    pub fn publish_kv_events(&self, payload: bytes::Bytes) {
        if let Some(publisher) = &self.engine.scheduler.publisher {
            publisher.publish_raw(payload);
        }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Replaces what goes wrong, from the next request on.
    pub fn set_faults(&self, faults: Faults) {
        self.engine.set_faults(faults);
    }

    /// Copies the latest 1024 requests, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.engine.requests.all()
    }

    /// Counts the requests that run.
    pub fn running(&self) -> usize {
        self.engine.scheduler.load().running
    }

    /// Counts the requests that wait.
    pub fn waiting(&self) -> usize {
        self.engine.scheduler.load().waiting
    }

    /// Puts the engine to sleep at a level, 1 or 2, or wakes it: 0.
    pub fn sleep(&self, level: u8) {
        self.engine.sleep.send_replace(level);
    }

    /// Closes the port and every connection, and returns once they are closed.
    pub async fn stop(mut self) {
        self.task.abort();
        self.stop_kv_events().await;
        // The only possible error is the cancellation just asked for.
        drop((&mut self.task).await);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
        self.events.iter().for_each(JoinHandle::abort);
    }
}
