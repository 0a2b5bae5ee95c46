//! What all requests of one simulated server share: its options, scheduler, counters, log of requests and faults.
//! It refuses to know paths and bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use tokio::sync::watch;

use super::error::SimApiError;
use super::generation::SplitMix64;
use super::request_log::RequestLog;
use super::schedule::Scheduler;
use super::stats::SimStats;
use super::transfer::KeptPrompts;
use super::{Faults, Flavour, SimOptions};

/// The state of one simulated server.
#[derive(Debug)]
pub(super) struct SimEngine {
    pub(super) options: SimOptions,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) stats: SimStats,
    pub(super) requests: Arc<RequestLog>,
    /// What is kept for other servers.
    pub(super) kept: KeptPrompts,
    /// When it started, in seconds since 1970.
    pub(super) started: f64,
    /// The longest prompt with its answer, in tokens: the model's context or what all blocks hold.
    pub(super) context: usize,
    /// The model named in answers.
    pub(super) model: String,
    /// How deep it sleeps, as vLLM counts it: 0 is awake, 1 without weights on the device, 2 without weights.
    pub(super) sleep: watch::Sender<u8>,
    faults: watch::Sender<Faults>,
    headers: HeaderMap,
    seeds: AtomicU64,
}

impl SimEngine {
    /// Makes an idle server that listens on `addr`.
    pub(super) fn new(options: SimOptions, addr: SocketAddr) -> Self {
        let scheduler = Scheduler::new(&options);
        let first = options.models.first().map_or("", String::as_str);
        let model = match options.flavour {
            Flavour::Vllm => first.to_owned(),
            Flavour::OpenAi => format!("{first}-2024-07-18"),
        };
        Self {
            context: options.capacity.max_model_len.min(scheduler.capacity_tokens()),
            stats: SimStats::new(options.capacity.max_model_len),
            requests: Arc::default(),
            kept: KeptPrompts::new(addr, options.latency.transfer_timeout),
            started: since_1970().as_secs_f64(),
            sleep: watch::Sender::new(0),
            faults: watch::Sender::new(options.faults),
            headers: response_headers(&options, addr.port()),
            seeds: AtomicU64::new(options.seed),
            scheduler,
            model,
            options,
        }
    }

    /// What goes wrong now.
    pub(super) fn faults(&self) -> Faults {
        *self.faults.borrow()
    }

    /// Replaces what goes wrong.
    pub(super) fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// Waits while no token comes.
    pub(super) async fn until_unwedged(&self) {
        if self.faults().wedged {
            // The sender lives as long as this.
            let _ = self.faults.subscribe().wait_for(|faults| !faults.wedged).await;
        }
    }

    /// Waits until it is awake.
    pub(super) async fn until_awake(&self) {
        // The sender lives as long as this.
        let _ = self.sleep.subscribe().wait_for(|level| *level == 0).await;
    }

    /// By how much times stretch at the present load.
    pub(super) fn stretch(&self) -> f64 {
        let most = self.options.capacity.max_num_seqs.saturating_sub(1).max(1) as f64;
        let others = self.scheduler.running().saturating_sub(1) as f64;
        1.0 + (self.options.latency.load_factor - 1.0).max(0.0) * others / most
    }

    /// A generator with a seed of its own, the next of the server's series.
    pub(super) fn random(&self) -> SplitMix64 {
        SplitMix64(SplitMix64(self.seeds.fetch_add(1, Ordering::Relaxed)).next_u64())
    }

    /// An error in the server's dialect.
    pub(super) fn error_response(&self, error: &SimApiError) -> Response {
        self.with_headers(error.response(self.options.flavour))
    }

    /// Adds the header fields that every response has.
    pub(super) fn with_headers(&self, mut response: Response) -> Response {
        for (name, value) in &self.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

fn response_headers(options: &SimOptions, port: u16) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    match options.flavour {
        Flavour::Vllm => insert("server", "uvicorn"),
        Flavour::OpenAi => {
            insert("openai-organization", "simulated");
            insert("openai-version", "2020-10-01");
        }
    }
    insert("x-inference-pod", &options.pod);
    insert("x-inference-namespace", &options.namespace);
    insert("x-inference-port", &port.to_string());
    headers
}

pub(super) fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
