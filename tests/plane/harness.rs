//! Starts the binary and its upstreams on free ports of the loopback, and asks them.

use reqwest::header::HeaderMap;
use serde_json::Value;
use signalbox::sim::{Faults, RecordedRequest, Sim, SimOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How long a condition may take to come true; only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway.
pub struct Gateway {
    child: Child,
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Where the operator asks.
    pub admin: SocketAddr,
    /// The policy in force.
    pub policy: PathBuf,
    /// The folder of its files, which goes with it.
    pub folder: Arc<tempfile::TempDir>,
    stdout: Lines,
    stderr: Lines,
}

/// The lines that a process has printed so far.
type Lines = Arc<Mutex<Vec<String>>>;

/// How a gateway is started.
pub struct Launch {
    policy: String,
    server: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    open_files: Option<usize>,
    folder: Arc<tempfile::TempDir>,
}

impl Launch {
    /// A gateway with this policy, and a server file of defaults on free ports.
    pub fn new(policy: impl Into<String>) -> Self {
        Self {
            policy: policy.into(),
            server: "drain: {delay: 0s, timeout: 10s}\n".to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            open_files: None,
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Replaces the server file; without listeners it listens on one free port.
    pub fn server(mut self, text: impl Into<String>) -> Self {
        self.server = text.into();
        self
    }

    /// Adds a command-line argument.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable of the process.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Limits how many files the process may have open.
    pub fn open_files(mut self, limit: usize) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// The folder that holds the policy; files for it can be put there first.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Shares the folder of a running gateway: its policy, its server file and its hand-over socket.
    pub fn beside(mut self, other: &Gateway) -> Self {
        self.folder = Arc::clone(&other.folder);
        self
    }

    /// Starts it and waits until it listens.
    pub async fn start(self) -> Gateway {
        let (command, policy) = self.command();
        Gateway::spawn(command, policy, self.folder).await
    }

    /// Starts it with streams that this test does not read, and waits until it is ready.
    pub async fn start_unread(mut self, stdout: Stdio, stderr: Stdio) -> Gateway {
        // It cannot say which ports it took.
        let free = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let [addr, admin] = [free().await, free().await].map(|listener| listener.local_addr().unwrap());
        let addresses = format!("listeners: [{{address: \"{addr}\"}}]\nadmin: {{address: \"{admin}\"}}\n");
        self.server.push_str(&addresses);
        let (mut command, policy) = self.command();
        let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let gateway = Gateway { child, addr, admin, policy, folder: self.folder, stdout, stderr };
        let ready = async || {
            let answer = client().get(format!("http://{admin}/readyz")).send().await.ok()?;
            (answer.status() == 200).then_some(())
        };
        until("a process that is ready", ready).await;
        gateway
    }

    /// Writes its files; gives the command that runs it, and where the policy is.
    fn command(&self) -> (Command, PathBuf) {
        let policy = self.folder.path().join("policy.yaml");
        let server = self.folder.path().join("server.yaml");
        std::fs::write(&policy, &self.policy).unwrap();
        // Processes of one test share no hand-over socket with those of another.
        let upgrade = self.folder.path().join("upgrade.sock");
        let upgrade = format!("upgrade: {{socket: {}}}\n", upgrade.display());
        let whole = if self.server.contains("upgrade:") {
            self.server.clone()
        } else {
            self.server.clone() + &upgrade
        };
        std::fs::write(&server, whole).unwrap();
        let binary = env!("CARGO_BIN_EXE_signalbox");
        let mut command = Command::new(if self.open_files.is_some() { "sh" } else { binary });
        if let Some(limit) = self.open_files {
            command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), binary]);
        }
        command.arg("serve").arg("--policy").arg(&policy).arg("--server").arg(&server);
        if !self.server.contains("listeners:") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !self.server.contains("admin:") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        (command, policy)
    }
}

impl Gateway {
    async fn spawn(mut command: Command, policy: PathBuf, folder: Arc<tempfile::TempDir>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = follow(child.stdout.take().unwrap());
        let stderr = follow(child.stderr.take().unwrap());
        let until = Instant::now() + PATIENCE;
        let announced = loop {
            if let Some(line) = find(&stdout, "\"event\":\"listening\"") {
                break line;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the gateway ended with {status}: {:#?}", stderr.lock().unwrap());
            }
            assert!(Instant::now() < until, "the gateway does not start: {:#?}", stderr.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let announced: Value = serde_json::from_str(&announced).unwrap();
        let addr = announced["listeners"][0].as_str().unwrap().parse().unwrap();
        let admin = announced["admin"].as_str().unwrap().parse().unwrap();
        Self { child, addr, admin, policy, folder, stdout, stderr }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of a path on the clients' port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Posts a JSON text as it stands.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = client().post(self.url(path)).header("content-type", "application/json").body(body);
        Answer::of(request.send().await.unwrap()).await
    }

    /// Asks a chat of one user message.
    pub async fn chat(&self, model: &str, text: &str) -> Answer {
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8});
        self.post("/v1/chat/completions", body.to_string()).await
    }

    /// What the operator's port says.
    pub async fn admin(&self, path: &str) -> Answer {
        Answer::of(client().get(format!("http://{}{path}", self.admin)).send().await.unwrap()).await
    }

    /// The value of a metric's series, 0 when it is not there; labels as `name="value"`, in any order.
    pub async fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").await.text;
        let series = text.lines().filter(|line| {
            line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until a series has a value: a request is counted after its answer has ended.
    pub async fn counts(&self, family: &str, labels: &[&str], value: f64) {
        let what = format!("{value} of {family} {labels:?}");
        until(&what, async || (self.metric(family, labels).await == value).then_some(())).await;
    }

    /// The log line of a request, once it is written.
    pub async fn line(&self, request_id: &str) -> Value {
        let line = until("the request's log line", async || find(&self.stdout, request_id)).await;
        serde_json::from_str(&line).unwrap()
    }

    /// All that was printed on standard error.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    /// All that was printed on standard output.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().join("\n")
    }

    /// Replaces the policy as an editor does.
    pub fn rewrite(&self, policy: &str) {
        let fresh = self.folder.path().join(".policy.yaml.new");
        std::fs::write(&fresh, policy).unwrap();
        std::fs::rename(&fresh, &self.policy).unwrap();
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself; gives its exit status.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let child = Mutex::new(&mut self.child);
        until("the gateway's end", async || child.lock().unwrap().try_wait().unwrap()).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap_or_default() }
    }

    /// A header's text, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// A client that keeps its connections.
pub fn client() -> reqwest::Client {
    static CLIENT: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap()
}

/// Starts a simulated vLLM that answers at once.
pub async fn sim(model: &str) -> Sim {
    sim_with(model, |_| {}).await
}

/// Starts a simulated vLLM with other options.
pub async fn sim_with(model: &str, change: impl FnOnce(&mut SimOptions)) -> Sim {
    let mut options =
        SimOptions { models: vec![model.to_owned()], default_max_tokens: 8, ..SimOptions::default() };
    change(&mut options);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    Sim::start(options, listener, None).await
}

/// The inference requests that an upstream has seen.
pub fn asked(sim: &Sim) -> Vec<RecordedRequest> {
    sim.requests().into_iter().filter(|seen| seen.method == "POST").collect()
}

/// No faults but these.
pub fn faults(change: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    change(&mut faults);
    faults
}

/// A policy of one pool `main` over these addresses, which serves the model `m`; `more` is put into the pool.
pub fn policy_of(addresses: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "version: 1\nmodels:\n  m: {{pools: [main]}}\npools:\n  main:\n    endpoints: [{}]\n    health: {{enabled: false}}\n{more}",
        endpoints.join(", ")
    )
}

/// Waits until a condition gives a value.
pub async fn until<T>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not come within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn follow(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}

fn find(lines: &Lines, part: &str) -> Option<String> {
    lines.lock().unwrap().iter().find(|line| line.contains(part)).cloned()
}

/// Runs a subcommand to its end with this on its standard input.
pub fn command(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("SIGNALBOX_POLICY");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a process printed.
pub fn printed(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
