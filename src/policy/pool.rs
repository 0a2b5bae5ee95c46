//! Owns what one pool is, checked and complete. Refuses to know which endpoints are up.

use std::time::Duration;

use super::{BasisPoints, Secret};

/// One upstream: its endpoints and how they are spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name.
    pub name: String,
    /// The addresses, each once; at least one has a weight.
    pub endpoints: Vec<EndpointSpec>,
    /// The protocol, with or without TLS.
    pub transport: Transport,
    /// The Host header.
    pub host: HostRule,
    /// What is put before each request's path; empty or with a leading and without a trailing slash.
    pub path_prefix: String,
    /// The header that carries this pool's secret.
    pub credential: Option<Credential>,
    /// Whether the client's own credentials go on.
    pub forward_authorization: bool,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// Which endpoint takes the next request.
    pub balance: Balance,
    /// Active health checks, if there are any.
    pub health: Option<Health>,
    /// When a failing endpoint is left out, if ever.
    pub ejection: Option<Ejection>,
    /// How often DNS names are resolved again.
    pub resolve_interval: Duration,
}

/// One address as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointSpec {
    /// A DNS name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
    /// The share relative to the other endpoints; 0 takes no requests.
    pub weight: u32,
}

impl EndpointSpec {
    /// Gives `host:port`, IPv6 in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How a pool is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Without TLS.
    Plain {
        /// Whether HTTP/2 is spoken from the first byte, instead of HTTP/1.1.
        h2c: bool,
    },
    /// With TLS.
    Tls {
        /// The name in SNI and in the certificate.
        server_name: String,
        /// The protocols offered.
        alpn: Alpn,
        /// The authorities to trust, as PEM, instead of the system's.
        ca: Option<Vec<u8>>,
        /// The certificate shown to the upstream.
        client: Option<ClientCert>,
    },
}

/// The protocols offered in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2 alone.
    H2,
    /// HTTP/1.1 alone.
    Http1,
    /// Both, HTTP/2 preferred.
    Both,
}

/// A client certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate and its chain, as PEM.
    pub cert: Vec<u8>,
    /// The key, as PEM.
    pub key: Secret,
}

/// What a pool's requests carry as Host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// The same for all endpoints.
    Fixed(String),
    /// Each endpoint's own [`EndpointSpec::authority`].
    Endpoint,
}

/// A header that carries a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The header's name in lower case; a valid one.
    pub header: String,
    /// The header's whole value, prefix included; a valid one.
    pub value: Secret,
}

/// How long each step of a request may take; none is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Until a connection stands, with its TLS handshake.
    pub connect: Duration,
    /// From the request's last byte to the answer's first.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For everything, retries included.
    pub total: Duration,
}

/// Which endpoint takes the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequest,
    /// The same endpoint for the same session.
    Hash(HashKey),
}

/// What requests of one session have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A request header, in lower case.
    Header(String),
    /// A string at the top level of the body.
    Field(String),
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The path that is asked with GET, before any prefix of the pool.
    pub path: String,
    /// The time between two checks.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// How many good checks bring an endpoint back.
    pub healthy_after: u32,
    /// How many bad checks take an endpoint out.
    pub unhealthy_after: u32,
    /// The statuses of a good check.
    pub status: Vec<u16>,
}

/// When an endpoint that keeps failing is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// How many failures in a row, from 1.
    pub consecutive_failures: u32,
    /// How long it is left out the first time.
    pub base: Duration,
    /// The longest time it is left out.
    pub max: Duration,
    /// The largest share of a pool that may be left out.
    pub max_share: BasisPoints,
}
