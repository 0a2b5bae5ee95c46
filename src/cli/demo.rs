//! Owns `signalbox demo`: everything on one machine, offline: simulated vLLM replicas, a simulated OpenAI over real
//! TLS that requires its key, and the gateway in front of them.

use super::serve::{AddressArgs, default_server, start_logging};
use super::{Failure, say, say_meanwhile};
use crate::control::PolicyFile;
use crate::policy::{Environment, LogLevel, Process};
use crate::server::{self, Bound, Setup};
use crate::sim::{Flavour, Sim, SimLatency, SimOptions, tls};
use clap::Args;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The quick start's policy.
pub(super) const QUICKSTART: &str = include_str!("../../conf/quickstart.yaml");

/// The key that the simulated OpenAI requires; it is valid nowhere else.
const DEMO_KEY: &str = "sk-demo-only-inside-this-process";

/// The name in the simulated OpenAI's certificate.
const OPENAI_NAME: &str = "api.openai.com";

/// Arguments of `signalbox demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    addresses: AddressArgs,
    /// Run this policy instead of a copy of conf/quickstart.yaml; its variables name the simulated upstreams.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl DemoArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let local = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let addresses = AddressArgs {
            listen: self.addresses.listen.or(local(8080)),
            admin: self.addresses.admin.or(local(9090)),
        };
        let mut spec = addresses.replace(default_server()?);
        spec.log.level = LogLevel::Warn;
        spec.drain.delay = Duration::ZERO;
        let folder = DemoFolder::new()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let upstreams = runtime.block_on(Upstreams::start(&folder.0))?;
        let path = match self.policy {
            Some(path) => path,
            None => folder.write("policy.yaml", QUICKSTART)?,
        };
        let (logs, _flushed_on_drop) = start_logging(&spec)?;
        let variables = upstreams.variables.clone();
        let policy = PolicyFile { path: path.clone(), environment: Arc::new(DemoEnvironment(variables)) };
        let setup = Setup { policy, spec, logs, upgrade: false };
        server::run(&setup, |bound| {
            let bound = bound.clone();
            say_meanwhile(move || introduce(&bound, &path));
        })?;
        Ok(())
    }
}

/// The simulated upstreams, and the variables by which a policy names them.
struct Upstreams {
    variables: HashMap<String, String>,
    _running: Vec<Sim>,
}

impl Upstreams {
    async fn start(folder: &Path) -> Result<Self, Failure> {
        let authority = tls::Authority::new("Signalbox demo");
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, authority.ca_pem())?;
        let mut running = Vec::new();
        let mut variables = HashMap::new();
        for (variable, model, pod) in [
            ("LLAMA_A", "llama3-8b", "llama-a"),
            ("LLAMA_B", "llama3-8b", "llama-b"),
            ("PHI", "phi4-mini", "phi-a"),
        ] {
            let sim = Sim::start(vllm(model, pod), free_port().await?, None).await;
            variables.insert(variable.to_owned(), sim.addr().to_string());
            running.push(sim);
        }
        let openai = SimOptions {
            models: vec!["gpt-4o-mini".to_owned()],
            api_key: Some(DEMO_KEY.to_owned()),
            flavour: Flavour::OpenAi,
            ..vllm("gpt-4o-mini", "openai")
        };
        let sim = Sim::start(openai, free_port().await?, Some(authority.server_config(&[OPENAI_NAME]))).await;
        variables.insert("OPENAI_ADDRESS".to_owned(), sim.addr().to_string());
        variables.insert("OPENAI_SERVER_NAME".to_owned(), OPENAI_NAME.to_owned());
        variables.insert("OPENAI_CA_FILE".to_owned(), ca.display().to_string());
        variables.insert("OPENAI_API_KEY".to_owned(), DEMO_KEY.to_owned());
        running.push(sim);
        Ok(Self { variables, _running: running })
    }
}

fn vllm(model: &str, pod: &str) -> SimOptions {
    let (ttft, itl) = (Duration::from_millis(30), Duration::from_millis(8));
    SimOptions {
        models: vec![model.to_owned()],
        pod: pod.to_owned(),
        latency: SimLatency { ttft, itl, ..SimLatency::default() },
        default_max_tokens: 32,
        ..SimOptions::default()
    }
}

async fn free_port() -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// The demo's own variables, then the process's.
struct DemoEnvironment(HashMap<String, String>);

impl Environment for DemoEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned().or_else(|| Process.var(name))
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        Process.read(path)
    }
}

/// A temporary folder, removed when the process ends.
struct DemoFolder(PathBuf);

impl DemoFolder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("signalbox-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The guides' requests, with what each should show: title, path, body.
const EXAMPLES: [(&str, &str, &str); 9] = [
    (
        "llama3-8b, named",
        "/v1/chat/completions",
        r#"{"model": "llama3-8b", "messages": [{"role": "user", "content": "Linux is said to be an open source kernel because "}], "max_tokens": 100, "temperature": 0}"#,
    ),
    (
        "auto: computer science, so llama3-8b",
        "/v1/chat/completions",
        r#"{"model": "auto", "messages": [{"role": "user", "content": "Linux is said to be an open source kernel because "}], "max_tokens": 100, "temperature": 0}"#,
    ),
    (
        "phi4-mini, named",
        "/v1/chat/completions",
        r#"{"model": "phi4-mini", "messages": [{"role": "user", "content": "2+2 is  "}], "max_tokens": 100, "temperature": 0}"#,
    ),
    (
        "auto: math, so the policy's model for it",
        "/v1/chat/completions",
        r#"{"model": "auto", "messages": [{"role": "user", "content": "2+2 is  "}], "max_tokens": 100, "temperature": 0}"#,
    ),
    (
        "auto: math again",
        "/v1/chat/completions",
        r#"{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2 * (5-1)?"}], "max_tokens": 64}"#,
    ),
    (
        "MoM, as the semantic router calls auto: math",
        "/v1/chat/completions",
        r#"{"model": "MoM", "messages": [{"role": "user", "content": "What is the derivative of f(x) = x^3 + 2x^2 - 5x + 7?"}]}"#,
    ),
    (
        "gpt-4o-mini: over TLS, with a key that you never see",
        "/v1/chat/completions",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "2+2 is  "}], "max_tokens": 100, "temperature": 0}"#,
    ),
    (
        "completions, by a model's name with a slash",
        "/v1/completions",
        r#"{"prompt": "San Francisco is a", "model": "TheBloke/Llama-2-13B-chat-GPTQ", "max_tokens": 30, "temperature": 1}"#,
    ),
    (
        "a stream, with its usage at the end",
        "/v1/chat/completions",
        r#"{"model": "auto", "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 16}"#,
    ),
];

/// A request whose prompt is worth caching, as a shell writes it.
const LONG_PROMPT: &str = r#""{\"model\": \"llama3-8b\", \"messages\": [{\"role\": \"user\", \"content\": \"$(yes 'All of this was said before. ' | head -80 | tr -d '\n')\"}], \"max_tokens\": 8}""#;

fn introduce(bound: &Bound, policy: &Path) {
    let Some(address) = bound.listeners.first() else { return };
    say(&format!("Signalbox listens on http://{address} (operator's port http://{}).", bound.admin));
    say(&format!(
        "Its policy is {}: edit it, and requests follow it within half a second; a line below says when.\n",
        policy.display()
    ));
    say(
        "Paste these into another terminal; `x-vsr-selected-model` in each answer says who gave it, and why.\n",
    );
    say(&format!("# the models\ncurl -s http://{address}/v1/models\n"));
    for (shows, path, body) in EXAMPLES {
        say(&format!(
            "# {shows}\ncurl -i http://{address}{path} -H 'Content-Type: application/json' -d '{body}'\n"
        ));
    }
    say(&format!(
        "# a long prompt: once more, and it goes to the replica that has it cached (x-endpoint-reason, cached_tokens)\n\
         curl -i http://{address}/v1/chat/completions -H 'Content-Type: application/json' -d {LONG_PROMPT}\n"
    ));
    let own =
        std::env::current_exe().map_or_else(|_| "signalbox".to_owned(), |path| path.display().to_string());
    say(&format!(
        "# why it goes there, and how each replica stands for it\n\
         printf %s {LONG_PROMPT} | '{own}' explain --gateway {} -\n",
        bound.admin
    ));
    say(&format!("# what was counted\ncurl -s http://{}/metrics | grep signalbox_\n", bound.admin));
    say("Press Ctrl-C to end. Each request is one line below.");
}
