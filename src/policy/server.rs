//! Owns the server file: listeners, limits and the process itself, read once at start. Refuses to know the policy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::cors::Cors;
use super::duration::{DurationOrZeroText, DurationText};
use super::gateway_api::{GatewayApiSpec, RawGatewayApi};
use super::issue::YamlPath;
use super::size::sized;

/// The longest time for a header: Pingora waits no longer for a connection's first one.
const MAX_HEADER_TIMEOUT: Duration = Duration::from_secs(60);

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
    pub limits: ClientLimits,
    /// Which pages in browsers may ask, if any.
    pub cors: Option<Cors>,
    /// Whether and how Gateways and their routes say where requests go.
    pub gateway_api: Option<GatewayApiSpec>,
    /// How the process ends.
    pub drain: Drain,
    /// How a new process takes over.
    pub upgrade: Upgrade,
    /// What is logged.
    pub log: LogSpec,
}

impl ServerSpec {
    /// Gives the addresses where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }
}

/// One address for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The port that clients know it by, where a Service maps another to it.
    pub public_port: Option<u16>,
    /// The certificate of a TLS listener.
    pub tls: Option<ListenerTls>,
}

/// A listener's certificate; both files were readable when the server file was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// A PEM file with the certificate and its chain.
    pub cert_file: PathBuf,
    /// A PEM file with its key.
    pub key_file: PathBuf,
}

/// What a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub struct ClientLimits {
    /// The longest request body, in bytes; a longer one is answered with 413.
    #[schemars(range(min = 1, max = 1_073_741_824_u64), transform = sized)]
    pub max_body_bytes: usize,
    /// The most bytes held at one time: of requests, with their headers and what is copied of them, and of answers that
    /// are held back.
    #[schemars(range(min = 1, max = 1_099_511_627_776_u64), transform = sized)]
    pub max_buffered_bytes: usize,
    /// The longest request header, in bytes; a longer one is answered with 431.
    #[schemars(range(min = 1024, max = 1_000_000), transform = sized)]
    pub max_header_bytes: usize,
    /// How long a request's header may take, and before it a TLS handshake; at most 60 s.
    #[serde(with = "DurationText")]
    pub header_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "DurationText")]
    pub body_timeout: Duration,
    /// How long a client's connection may stay idle.
    #[serde(with = "DurationText")]
    pub idle_timeout: Duration,
    /// The most requests at one time; one that waits for its body does not count. Where the policy knows clients, one
    /// in eight places is kept for those.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_in_flight: usize,
    /// The most connections at one time; when it is absent, half of the files that the process may have open. A
    /// connection that waits for a request makes room for a new one.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// The most connections of one address (of IPv6: one /64), trusted peers excepted; when it is absent, three in
    /// four of all.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_address: Option<usize>,
    /// What WebSockets may use.
    pub websockets: WebSocketLimits,
}

/// What WebSockets may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "WebSockets")]
pub struct WebSocketLimits {
    /// The most that are open at one time; they count among the requests too.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_open: usize,
    /// How long one may be silent in both directions.
    #[serde(with = "DurationText")]
    pub idle_timeout: Duration,
    /// How long one may be open.
    #[serde(with = "DurationText")]
    pub total_timeout: Duration,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self {
            max_open: 1000,
            idle_timeout: Duration::from_secs(300),
            total_timeout: Duration::from_secs(7200),
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            max_buffered_bytes: 256 << 20,
            max_header_bytes: 64 << 10,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            max_in_flight: 10_000,
            max_connections: None,
            max_connections_per_address: None,
            websockets: WebSocketLimits::default(),
        }
    }
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long it serves on while it reports that it is not ready.
    #[serde(with = "DurationOrZeroText")]
    pub delay: Duration,
    /// How long requests in flight may take after that.
    #[serde(with = "DurationText")]
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), timeout: Duration::from_secs(60) }
    }
}

/// How a new process takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upgrade {
    /// The socket over which the listeners are handed over, in a folder that nobody else may write to; it is made if
    /// it is not there.
    #[schemars(length(min = 1, max = 100))]
    pub socket: PathBuf,
    /// The file that holds the process's id; none when absent.
    pub pid_file: Option<PathBuf>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self { socket: "/tmp/signalbox/upgrade.sock".into(), pid_file: None }
    }
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Log")]
pub struct LogSpec {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// Whether there is a line for each request.
    pub access: bool,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { level: LogLevel::Info, access: true }
    }
}

/// A level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Level")]
pub enum LogLevel {
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

impl LogLevel {
    /// Returns the level as the server file and `RUST_LOG` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How the process listens and what it allows; read once at start.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Signalbox server")]
pub(super) struct RawServer {
    /// Where clients connect; from this machine alone unless it says otherwise.
    #[schemars(length(min = 1, max = 64))]
    listeners: Vec<RawListener>,
    /// Where health, readiness, metrics and the classify API are served, to whoever connects; this machine alone unless it
    /// says otherwise.
    admin: RawAdmin,
    /// Threads for requests; 0 means one for each core.
    #[schemars(range(max = 1024))]
    threads: usize,
    /// What a client may use.
    limits: ClientLimits,
    /// Which pages in browsers may ask; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cors")]
    cors: Option<Cors>,
    /// Whether Gateways and their routes say where requests go; not when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawGatewayApi")]
    gateway_api: Option<RawGatewayApi>,
    /// How the process ends.
    drain: Drain,
    /// How a new process takes over.
    upgrade: Upgrade,
    /// What is logged.
    log: LogSpec,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listeners: vec![RawListener {
                address: "127.0.0.1:8080".to_owned(),
                public_port: None,
                tls: None,
            }],
            admin: RawAdmin::default(),
            threads: 0,
            limits: ClientLimits::default(),
            cors: None,
            gateway_api: None,
            drain: Drain::default(),
            upgrade: Upgrade::default(),
            log: LogSpec::default(),
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
    /// The port that clients know it by, and that a Gateway's listener names; that of the address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1))]
    public_port: Option<u16>,
    /// The certificate; present means TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ListenerTls")]
    tls: Option<ListenerTls>,
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
        Self { address: "127.0.0.1:9090".to_owned() }
    }
}

impl RawServer {
    /// Completes the server file; what is wrong goes to the checker.
    pub(super) fn check(self, checker: &mut Checker<'_>) -> ServerSpec {
        let root = YamlPath::default();
        let path = root.key("listeners");
        let listeners = self.listeners.into_iter().enumerate();
        let listeners: Vec<Listener> =
            listeners.map(|(index, raw)| raw.check(&path.index(index), checker)).collect();
        for (index, listener) in listeners.iter().enumerate() {
            let taken = listeners[..index].iter().any(|other| other.address == listener.address);
            if taken && listener.address.port() != 0 {
                checker.issue(&path.index(index).key("address"), "stands twice");
            }
        }
        let admin = address(&self.admin.address, &root.key("admin").key("address"), checker);
        if admin.port() != 0 && listeners.iter().any(|listener| listener.address == admin) {
            checker.issue(&root.key("admin").key("address"), "is a listener's address too");
        }
        if self.limits.max_buffered_bytes < self.limits.max_body_bytes {
            let path = root.key("limits").key("max_buffered_bytes");
            checker.issue(&path, "is less than `max_body_bytes`");
        }
        if let Some(cors) = &self.cors {
            cors.check(&root.key("cors"), checker);
        }
        if self.limits.header_timeout > MAX_HEADER_TIMEOUT {
            checker.issue(&root.key("limits").key("header_timeout"), "is more than 60s");
        }
        ServerSpec {
            listeners,
            admin,
            threads: self.threads,
            limits: self.limits,
            cors: self.cors,
            gateway_api: self.gateway_api.map(|raw| raw.check(&root.key("gateway_api"), checker)),
            drain: self.drain,
            upgrade: Upgrade {
                socket: checker.resolve(&self.upgrade.socket),
                pid_file: self.upgrade.pid_file.map(|file| checker.resolve(file)),
            },
            log: self.log,
        }
    }
}

impl RawListener {
    fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Listener {
        let tls = self.tls.map(|tls| tls.checked(&path.key("tls"), checker));
        let address = address(&self.address, &path.key("address"), checker);
        Listener { address, public_port: self.public_port, tls }
    }
}

impl ListenerTls {
    /// Resolves the files and checks that they are PEM.
    fn checked(self, path: &YamlPath, checker: &mut Checker<'_>) -> Self {
        let mut file = |key, file: PathBuf, block| {
            checker.pem(&path.key(key), &file.to_string_lossy(), block);
            checker.resolve(file)
        };
        Self {
            cert_file: file("cert_file", self.cert_file, "CERTIFICATE"),
            key_file: file("key_file", self.key_file, "PRIVATE KEY"),
        }
    }
}

fn address(raw: &str, path: &YamlPath, checker: &mut Checker<'_>) -> SocketAddr {
    parse_listen_address(raw).unwrap_or_else(|| {
        let forms = "`0.0.0.0:8080`, `[::]:8080`, `localhost:8080`, or `:8080` for all addresses";
        checker.issue(path, format!("`{raw}` is not `address:port`, such as {forms}"));
        SocketAddr::from(([0, 0, 0, 0], 0))
    })
}

/// Reads where to listen: an address and a port, `localhost:8080`, or a port alone (`:8080`, `8080`), which means every
/// IPv4 address.
pub fn parse_listen_address(text: &str) -> Option<SocketAddr> {
    let port = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u16>().ok()).flatten()
    };
    if let Some(digits) = text.strip_prefix("localhost:") {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port(digits)?)));
    }
    let alone = port(text.strip_prefix(':').unwrap_or(text));
    alone.map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).or_else(|| text.parse().ok())
}
