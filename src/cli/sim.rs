//! Owns `signalbox sim`: the arguments of a simulated vLLM, which runs until a signal ends it.
//! It refuses to know how one behaves.

use crate::sim::tls::{TlsError, server_config_of_files};
use crate::sim::{Faults, Flavour, SglangRole, Sim, SimCapacity, SimLatency, SimOptions};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `signalbox sim`.
#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// Listen here; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// A served model name; repeat it for aliases; responses name the first.
    #[arg(long, value_name = "NAME", default_value = "llama3-8b")]
    model: Vec<String>,
    /// Respond as the OpenAI platform does instead of as vLLM.
    #[arg(long)]
    openai: bool,
    /// Compute prompts, or answer, as one of two of `SGLang`'s engines that meet over each request.
    #[arg(long, value_name = "prefill|decode", value_parser = role)]
    sglang: Option<SglangRole>,
    /// The pod named in `x-inference-pod`.
    #[arg(long, value_name = "NAME", default_value = "sim-0")]
    pod: String,
    /// The namespace named in `x-inference-namespace`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// What texts, ids and shares of faults are derived from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    capacity: CapacityArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    faults: FaultArgs,
}

/// How fast it answers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
struct PaceArgs {
    /// Time to the first token.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    ttft: Duration,
    /// Time between two tokens.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    itl: Duration,
    /// Time to compute one prompt token that is not cached.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    prefill_time_per_token: Duration,
    /// Time to fetch one prompt token that another server has computed (`kv_transfer_params`).
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    kv_transfer_time_per_token: Duration,
    /// How long a prompt is kept for another server to fetch.
    #[arg(long, value_name = "TIME", default_value = "480s", value_parser = humantime::parse_duration)]
    kv_transfer_timeout: Duration,
    /// By how much times stretch on a full server; at least 1.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    time_factor_under_load: f64,
    /// How many tokens an answer has when the client sets no smaller limit.
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    answer_tokens: usize,
}

/// How much it holds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capacity")]
struct CapacityArgs {
    /// How many requests run at once.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    max_num_seqs: usize,
    /// How many requests wait; beyond that they get 429.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_waiting_queue_length: usize,
    /// The context length.
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = at_least_one)]
    max_model_len: usize,
    /// KV blocks.
    #[arg(long, value_name = "BLOCKS", default_value_t = 16_384, value_parser = at_least_one)]
    kv_cache_size: usize,
    /// Tokens in a KV block.
    #[arg(long, value_name = "TOKENS", default_value_t = 16, value_parser = at_least_one)]
    block_size: usize,
    /// Reuse no block between requests.
    #[arg(long)]
    no_prefix_caching: bool,
    /// Publish what changes in the KV cache over `ZeroMQ` on this port of the same address.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    kv_events_port: Option<u16>,
    /// Repeat missed KV events on this port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), requires = "kv_events_port")]
    kv_events_replay_port: Option<u16>,
}

/// Who gets in, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
struct AccessArgs {
    /// Require the bearer key in this environment variable.
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_file")]
    api_key_env: Option<String>,
    /// Require the bearer key in this file.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Serve TLS with this PEM certificate chain.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The PEM key of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// What goes wrong.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
#[allow(clippy::struct_excessive_bools, reason = "faults come one without another")]
struct FaultArgs {
    /// Reset every connection as soon as it is accepted.
    #[arg(long = "fault-refuse")]
    refuse: bool,
    /// Reset this share of requests instead of answering.
    #[arg(long = "fault-reset", value_name = "0..1", default_value_t = 0.0, value_parser = share)]
    reset: f64,
    /// Reset the connection after so many events of a stream.
    #[arg(long = "fault-reset-after-chunks", value_name = "N")]
    reset_after_chunks: Option<usize>,
    /// Answer with this status.
    #[arg(long = "fault-status", value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..600))]
    status: Option<u16>,
    /// Answer only this share of requests with the faulty status.
    #[arg(long = "fault-share", value_name = "0..1", default_value_t = 1.0, value_parser = share, requires = "status")]
    share: f64,
    /// Stay silent for so long before answering.
    #[arg(long = "fault-stall", value_name = "TIME", value_parser = humantime::parse_duration)]
    stall: Option<Duration>,
    /// Stay silent for so long after a stream's first token.
    #[arg(long = "fault-stall-stream", value_name = "TIME", value_parser = humantime::parse_duration)]
    stall_stream: Option<Duration>,
    /// Refuse requests as an engine whose queue is full, with 503.
    #[arg(long = "fault-busy")]
    busy: bool,
    /// Give no token, while requests are taken and all else is answered.
    #[arg(long = "fault-wedged")]
    wedged: bool,
    /// Answer 503 to `/health`.
    #[arg(long = "fault-unhealthy")]
    unhealthy: bool,
}

/// Why `signalbox sim` cannot run.
#[derive(Debug, thiserror::Error)]
pub(super) enum SimCommandError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    /// The environment variable that should hold the key is not set.
    #[error("--api-key-env: the environment variable {name} holds no key")]
    NoKey { name: String },
    /// The file that should hold the key cannot be read.
    #[error("--api-key-file: {path}: {source}")]
    KeyFile { path: PathBuf, source: std::io::Error },
    /// The certificate or its key cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signal(std::io::Error),
}

impl SimArgs {
    /// Serves until SIGINT or SIGTERM, after saying where.
    pub(super) async fn run(self) -> Result<(), SimCommandError> {
        let address = self.listen;
        let tls = self.access.tls()?;
        let (events, replays) = (self.capacity.kv_events_port, self.capacity.kv_events_replay_port);
        let options = self.options()?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(SimCommandError::Signal)?;
        let mut terminated = signal(SignalKind::terminate()).map_err(SimCommandError::Signal)?;
        let bind = async |address: SocketAddr| {
            TcpListener::bind(address).await.map_err(|source| SimCommandError::Listen { address, source })
        };
        let mut sim = Sim::start(options, bind(address).await?, tls).await;
        if let Some(port) = events {
            let replays = match replays {
                Some(port) => Some(bind(SocketAddr::new(address.ip(), port)).await?),
                None => None,
            };
            sim.serve_kv_events(bind(SocketAddr::new(address.ip(), port)).await?, replays);
        }
        let line = format!("{{\"event\":\"listening\",\"listeners\":[\"{}\"]}}", sim.addr());
        super::say_meanwhile(move || super::say(&line));
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        sim.stop().await;
        Ok(())
    }

    fn options(self) -> Result<SimOptions, SimCommandError> {
        let Self { pace, capacity, .. } = self;
        Ok(SimOptions {
            models: self.model,
            latency: SimLatency {
                ttft: pace.ttft,
                itl: pace.itl,
                prefill_per_token: pace.prefill_time_per_token,
                transfer_per_token: pace.kv_transfer_time_per_token,
                transfer_timeout: pace.kv_transfer_timeout,
                load_factor: pace.time_factor_under_load,
            },
            capacity: SimCapacity {
                max_num_seqs: capacity.max_num_seqs,
                max_waiting: capacity.max_waiting_queue_length,
                max_model_len: capacity.max_model_len,
                block_size: capacity.block_size,
                kv_blocks: capacity.kv_cache_size,
                prefix_caching: !capacity.no_prefix_caching,
            },
            pod: self.pod,
            namespace: self.namespace,
            api_key: self.access.key()?,
            flavour: if self.openai { Flavour::OpenAi } else { Flavour::Vllm },
            faults: self.faults.faults(),
            seed: self.seed,
            default_max_tokens: pace.answer_tokens,
            kv_events: capacity.kv_events_port.is_some(),
            sglang: self.sglang,
        })
    }
}

impl AccessArgs {
    fn tls(&self) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => server_config_of_files(chain, key).map(Some),
            _ => Ok(None),
        }
    }

    fn key(self) -> Result<Option<String>, SimCommandError> {
        if let Some(name) = self.api_key_env {
            let key = std::env::var(&name).ok().filter(|key| !key.is_empty());
            return key.map(Some).ok_or(SimCommandError::NoKey { name });
        }
        let Some(path) = self.api_key_file else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(source) => Err(SimCommandError::KeyFile { path, source }),
        }
    }
}

impl FaultArgs {
    fn faults(&self) -> Faults {
        // A share of nothing is no fault; for the simulator 0 would mean all.
        let status = self.status.filter(|_| self.share > 0.0);
        Faults {
            refuse: self.refuse,
            reset_before_headers: self.reset,
            reset_mid_stream: self.reset_after_chunks,
            status,
            status_share: self.share,
            stall_before_headers: self.stall,
            stall_mid_stream: self.stall_stream,
            unhealthy: self.unhealthy,
            busy: self.busy,
            wedged: self.wedged,
        }
    }
}

/// Why a value of an argument is not accepted.
#[derive(Debug, thiserror::Error)]
enum ValueError {
    #[error("must be a number")]
    NoNumber,
    #[error("must be at least 1")]
    LessThanOne,
    #[error("must lie between 0 and 1")]
    NoShare,
    #[error("must be `prefill` or `decode`")]
    NoRole,
}

fn at_least_one(text: &str) -> Result<usize, ValueError> {
    match text.parse() {
        Ok(0) => Err(ValueError::LessThanOne),
        Ok(count) => Ok(count),
        Err(_) => Err(ValueError::NoNumber),
    }
}

fn factor(text: &str) -> Result<f64, ValueError> {
    let factor: f64 = text.parse().map_err(|_| ValueError::NoNumber)?;
    if factor >= 1.0 && factor.is_finite() { Ok(factor) } else { Err(ValueError::LessThanOne) }
}

fn role(text: &str) -> Result<SglangRole, ValueError> {
    match text {
        "prefill" => Ok(SglangRole::Prefill),
        "decode" => Ok(SglangRole::Decode),
        _ => Err(ValueError::NoRole),
    }
}

fn share(text: &str) -> Result<f64, ValueError> {
    let share: f64 = text.parse().map_err(|_| ValueError::NoNumber)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(ValueError::NoShare) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SimArgs,
    }

    fn options(arguments: &[&str]) -> Result<SimOptions, String> {
        let line = Line::try_parse_from([&["sim"], arguments].concat()).map_err(|error| error.to_string())?;
        line.args.options().map_err(|error| error.to_string())
    }

    #[test]
    fn without_arguments_it_behaves_by_default() {
        assert_eq!(format!("{:?}", options(&[]).unwrap()), format!("{:?}", SimOptions::default_with_share()));
    }

    impl SimOptions {
        fn default_with_share() -> Self {
            Self { faults: Faults { status_share: 1.0, ..Faults::default() }, ..Self::default() }
        }
    }

    #[test]
    fn arguments_become_options() {
        let given = options(&[
            "--model",
            "a",
            "--model",
            "b",
            "--ttft",
            "20ms",
            "--fault-status",
            "503",
            "--fault-share",
            "0.25",
            "--no-prefix-caching",
        ])
        .unwrap();
        assert_eq!(given.models, ["a", "b"]);
        assert_eq!(given.latency.ttft, Duration::from_millis(20));
        assert_eq!((given.faults.status, given.faults.status_share), (Some(503), 0.25));
        assert!(!given.capacity.prefix_caching);
    }

    #[test]
    fn values_out_of_range_are_turned_down() {
        for arguments in [
            ["--fault-reset", "2"],
            ["--max-num-seqs", "0"],
            ["--time-factor-under-load", "0.5"],
            ["--ttft", "soon"],
            ["--fault-share", "0.5"],
        ] {
            assert!(options(&arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_an_error() {
        let missing = options(&["--api-key-env", "SIGNALBOX_TEST_NO_SUCH_VARIABLE"]).unwrap_err();
        assert!(missing.contains("SIGNALBOX_TEST_NO_SUCH_VARIABLE"), "{missing}");
    }
}
