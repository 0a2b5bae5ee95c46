//! Owns the server file: listeners, limits and the process itself, read once at start. Refuses to know the policy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::duration::RawDuration;
use super::issue::Path;

/// How the process listens and what it allows; read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Where clients connect; never empty.
    pub listeners: Vec<Listener>,
    /// Where health, readiness and metrics are served.
    pub admin: SocketAddr,
    /// Threads for requests; 0 means one for each core.
    pub threads: usize,
    /// What a client may use.
    pub limits: Limits,
    /// How long the process serves on, not ready, after it is told to end.
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    pub drain_timeout: Duration,
    /// The socket over which a new process takes over the listeners.
    pub upgrade_socket: PathBuf,
    /// The file that holds the process's id.
    pub pid_file: Option<PathBuf>,
    /// What is logged.
    pub log: LogSpec,
}

/// One address for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The certificate, where TLS is spoken.
    pub tls: Option<ListenerTls>,
}

/// A listener's certificate; both files were readable when the server file was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificate and its chain, as PEM.
    pub cert_file: PathBuf,
    /// Its key, as PEM.
    pub key_file: PathBuf,
}

/// What a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest request body.
    pub max_body_bytes: usize,
    /// The most bytes of request bodies held at one time.
    pub max_buffered_bytes: usize,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a client's connection may stand unused.
    pub idle_timeout: Duration,
    /// The most requests at one time.
    pub max_in_flight: usize,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// Whether there is a line for each request.
    pub access: bool,
}

/// How the process listens and what it allows; read once at start.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Signalbox server")]
pub(super) struct RawServer {
    /// Where clients connect.
    #[schemars(length(min = 1, max = 64))]
    listeners: Vec<RawListener>,
    /// Where health, readiness and metrics are served.
    admin: RawAdmin,
    /// Threads for requests; 0 means one for each core.
    #[schemars(range(max = 1024))]
    threads: usize,
    /// What a client may use.
    limits: RawLimits,
    /// How the process ends.
    drain: RawDrain,
    /// How a new process takes over.
    upgrade: RawUpgrade,
    /// What is logged.
    log: RawLog,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listeners: vec![RawListener { address: "0.0.0.0:8080".to_owned(), tls: None }],
            admin: RawAdmin::default(),
            threads: 0,
            limits: RawLimits::default(),
            drain: RawDrain::default(),
            upgrade: RawUpgrade::default(),
            log: RawLog::default(),
        }
    }
}

/// One address for clients.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listener")]
struct RawListener {
    /// `address:port`, such as `0.0.0.0:8080` or `[::]:8080`; port 0 lets the system choose.
    address: String,
    /// The certificate; present means TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawListenerTls")]
    tls: Option<RawListenerTls>,
}

/// A listener's certificate.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenerTls")]
struct RawListenerTls {
    /// A PEM file with the certificate and its chain.
    cert_file: String,
    /// A PEM file with its key.
    key_file: String,
}

/// Where health, readiness and metrics are served.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admin")]
struct RawAdmin {
    /// `address:port`.
    address: String,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { address: "0.0.0.0:9090".to_owned() }
    }
}

/// What a client may use.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
struct RawLimits {
    /// The longest request body, in bytes; a longer one is answered with 413.
    #[schemars(range(min = 1, max = 1_073_741_824_u64))]
    max_body_bytes: usize,
    /// The most bytes of request bodies held at one time.
    #[schemars(range(min = 1, max = 1_099_511_627_776_u64))]
    max_buffered_bytes: usize,
    /// How long a request's body may take.
    body_timeout: RawDuration,
    /// How long a client's connection may stand unused.
    idle_timeout: RawDuration,
    /// The most requests at one time.
    #[schemars(range(min = 1, max = 10_000_000))]
    max_in_flight: usize,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 10 << 20,
            max_buffered_bytes: 512 << 20,
            body_timeout: RawDuration(Duration::from_secs(30)),
            idle_timeout: RawDuration(Duration::from_secs(60)),
            max_in_flight: 10_000,
        }
    }
}

/// How the process ends.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Drain")]
struct RawDrain {
    /// How long it serves on while it says that it is not ready.
    delay: RawDuration,
    /// How long requests in flight may take after that.
    timeout: RawDuration,
}

impl Default for RawDrain {
    fn default() -> Self {
        Self { delay: RawDuration(Duration::from_secs(5)), timeout: RawDuration(Duration::from_secs(60)) }
    }
}

/// How a new process takes over.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Upgrade")]
struct RawUpgrade {
    /// The socket over which the listeners are handed over.
    #[schemars(length(min = 1, max = 100))]
    socket: String,
    /// The file that holds the process's id; none when absent.
    pid_file: Option<String>,
}

impl Default for RawUpgrade {
    fn default() -> Self {
        Self { socket: "/tmp/signalbox-upgrade.sock".to_owned(), pid_file: None }
    }
}

/// What is logged.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Log")]
struct RawLog {
    /// The least severe level that is logged.
    level: RawLevel,
    /// Whether there is a line for each request.
    access: bool,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: RawLevel::Info, access: true }
    }
}

/// A level of the log.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Level")]
enum RawLevel {
    /// What failed.
    Error,
    /// What may need attention.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

/// Turns the raw server file into the final one; what is wrong goes to the checker.
pub(super) fn server(raw: &RawServer, checker: &mut Checker<'_>) -> ServerSpec {
    let root = Path::default();
    let listeners_path = root.key("listeners");
    let listeners = raw.listeners.iter().enumerate();
    let listeners: Vec<Listener> =
        listeners.map(|(index, raw)| listener(raw, &listeners_path.index(index), checker)).collect();
    for (index, listener) in listeners.iter().enumerate() {
        let taken = listeners[..index].iter().any(|other| other.address == listener.address);
        if taken && listener.address.port() != 0 {
            checker.issue(&listeners_path.index(index).key("address"), "stands twice");
        }
    }
    let limits = limits(&raw.limits, &root.key("limits"), checker);
    let drain = root.key("drain");
    ServerSpec {
        listeners,
        admin: address(&raw.admin.address, &root.key("admin").key("address"), checker),
        threads: raw.threads,
        limits,
        drain_delay: raw.drain.delay.0,
        drain_timeout: checker.positive(&drain.key("timeout"), raw.drain.timeout),
        upgrade_socket: checker.resolve(&raw.upgrade.socket),
        pid_file: raw.upgrade.pid_file.as_deref().map(|file| checker.resolve(file)),
        log: LogSpec { level: level(raw.log.level), access: raw.log.access },
    }
}

fn listener(raw: &RawListener, path: &Path, checker: &mut Checker<'_>) -> Listener {
    let tls = raw.tls.as_ref().map(|tls| {
        let path = path.key("tls");
        checker.pem(&path.key("cert_file"), &tls.cert_file, "CERTIFICATE");
        checker.pem(&path.key("key_file"), &tls.key_file, "PRIVATE KEY");
        ListenerTls { cert_file: checker.resolve(&tls.cert_file), key_file: checker.resolve(&tls.key_file) }
    });
    Listener { address: address(&raw.address, &path.key("address"), checker), tls }
}

fn address(raw: &str, path: &Path, checker: &mut Checker<'_>) -> SocketAddr {
    raw.parse().unwrap_or_else(|_| {
        checker.issue(path, format!("`{raw}` is not `address:port`, such as `0.0.0.0:8080` or `[::]:8080`"));
        SocketAddr::from(([0, 0, 0, 0], 0))
    })
}

fn limits(raw: &RawLimits, path: &Path, checker: &mut Checker<'_>) -> Limits {
    if raw.max_buffered_bytes < raw.max_body_bytes {
        checker.issue(&path.key("max_buffered_bytes"), "is less than `max_body_bytes`");
    }
    Limits {
        max_body_bytes: raw.max_body_bytes,
        max_buffered_bytes: raw.max_buffered_bytes,
        body_timeout: checker.positive(&path.key("body_timeout"), raw.body_timeout),
        idle_timeout: checker.positive(&path.key("idle_timeout"), raw.idle_timeout),
        max_in_flight: raw.max_in_flight,
    }
}

fn level(raw: RawLevel) -> &'static str {
    match raw {
        RawLevel::Error => "error",
        RawLevel::Warn => "warn",
        RawLevel::Info => "info",
        RawLevel::Debug => "debug",
        RawLevel::Trace => "trace",
    }
}
