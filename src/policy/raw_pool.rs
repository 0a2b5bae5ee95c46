//! Owns the shape of one pool in the policy file. Refuses to know what the values mean together.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::RawDuration;

/// One upstream: its endpoints and how they are spoken to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pool")]
pub(super) struct RawPool {
    /// The addresses; a DNS name stands for each address it resolves to.
    #[schemars(length(min = 1, max = 1024))]
    pub(super) endpoints: Vec<RawEndpoint>,
    /// The plaintext protocol, `http1` when absent; a pool with `tls` has `tls.alpn` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawProtocol")]
    pub(super) protocol: Option<RawProtocol>,
    /// TLS and its settings; present, even as `{}`, means TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawTls")]
    pub(super) tls: Option<RawTls>,
    /// The Host header; `tls.server_name` with TLS, else each endpoint's address as written.
    #[serde(default)]
    pub(super) host: Option<String>,
    /// A path put before each request's path, such as `/openai`.
    #[serde(default)]
    pub(super) path_prefix: Option<String>,
    /// The credential that this pool's requests carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawCredential")]
    pub(super) credential: Option<RawCredential>,
    /// Whether the client's own credentials (Authorization, x-api-key, api-key, cookies) go on to this pool.
    #[serde(default)]
    pub(super) forward_authorization: bool,
    /// How long each step may take.
    #[serde(default)]
    pub(super) timeouts: RawTimeouts,
    /// Which endpoint takes the next request.
    #[serde(default)]
    pub(super) balance: RawBalance,
    /// Active health checks.
    #[serde(default)]
    pub(super) health: RawHealth,
    /// When an endpoint that keeps failing is left out.
    #[serde(default)]
    pub(super) ejection: RawEjection,
    /// How often DNS names are resolved again.
    #[serde(default = "thirty_seconds")]
    pub(super) resolve_interval: RawDuration,
}

fn thirty_seconds() -> RawDuration {
    RawDuration(Duration::from_secs(30))
}

/// One address: `host:port`, or a mapping.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Endpoint")]
pub(super) enum RawEndpoint {
    /// The address alone.
    Address(String),
    /// The address and its weight.
    Full(RawFullEndpoint),
}

/// An address with its weight.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FullEndpoint")]
pub(super) struct RawFullEndpoint {
    /// `host:port`; IPv6 as `[::1]:8001`.
    pub(super) address: String,
    /// The share of requests relative to the other endpoints; 0 takes none.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    pub(super) weight: u32,
}

fn one() -> u32 {
    1
}

/// The plaintext protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Protocol")]
pub(super) enum RawProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, known beforehand.
    H2c,
}

/// TLS towards a pool.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(super) struct RawTls {
    /// The name in SNI and in the certificate; the first endpoint's host when that is a DNS name.
    pub(super) server_name: Option<String>,
    /// The protocols offered, `h2` and `http/1.1`.
    #[schemars(length(min = 1, max = 2))]
    pub(super) alpn: Vec<RawAlpn>,
    /// A PEM file of the authorities to trust instead of the system's; empty means the system's.
    pub(super) ca_file: Option<String>,
    /// A PEM file with the client certificate and its chain.
    pub(super) client_cert_file: Option<String>,
    /// A PEM file with the client certificate's key.
    pub(super) client_key_file: Option<String>,
}

impl Default for RawTls {
    fn default() -> Self {
        Self {
            server_name: None,
            alpn: vec![RawAlpn::H2, RawAlpn::Http1],
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
        }
    }
}

/// A protocol offered in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AlpnProtocol")]
pub(super) enum RawAlpn {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
}

/// A header that carries a secret.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credential")]
pub(super) struct RawCredential {
    /// The header's name.
    #[serde(default = "authorization")]
    #[schemars(length(min = 1, max = 128))]
    pub(super) header: String,
    /// What stands before the secret; `Bearer ` in `authorization`, else nothing.
    #[serde(default)]
    pub(super) prefix: Option<String>,
    /// Where the secret is.
    pub(super) value: RawSecret,
    /// Whether requests go out without the header when the secret is missing or empty.
    #[serde(default)]
    pub(super) optional: bool,
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// Where a secret is: exactly one of the keys; the secret itself never stands in the policy.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Secret", extend("x-expected" = "`{env: NAME}` or `{file: PATH}`"))]
pub(super) struct RawSecret {
    /// The environment variable that holds it.
    #[serde(default)]
    pub(super) env: Option<String>,
    /// The file that holds it; relative to the policy's folder.
    #[serde(default)]
    pub(super) file: Option<String>,
}

/// How long each step of a request may take.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub(super) struct RawTimeouts {
    /// Until a connection stands, with its TLS handshake.
    pub(super) connect: RawDuration,
    /// From the request's last byte to the answer's first.
    pub(super) first_byte: RawDuration,
    /// Between two pieces of an answer.
    pub(super) idle: RawDuration,
    /// For everything, retries included.
    pub(super) total: RawDuration,
}

impl Default for RawTimeouts {
    fn default() -> Self {
        let seconds = |seconds| RawDuration(Duration::from_secs(seconds));
        Self { connect: seconds(2), first_byte: seconds(120), idle: seconds(60), total: seconds(600) }
    }
}

/// Which endpoint takes the next request.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Balance")]
pub(super) struct RawBalance {
    /// The way of choosing.
    pub(super) strategy: RawStrategy,
    /// What requests of one session have in common; for `hash` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawHashOn")]
    pub(super) hash_on: Option<RawHashOn>,
}

impl Default for RawBalance {
    fn default() -> Self {
        Self { strategy: RawStrategy::LeastRequest, hash_on: None }
    }
}

/// A way of choosing an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Strategy")]
pub(super) enum RawStrategy {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequest,
    /// The same endpoint for the same session.
    Hash,
}

/// What requests of one session have in common: exactly one of the keys.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HashOn", extend("x-expected" = "`{header: NAME}` or `{field: NAME}`"))]
pub(super) struct RawHashOn {
    /// A request header.
    #[serde(default)]
    pub(super) header: Option<String>,
    /// A string at the top level of the request's JSON body.
    #[serde(default)]
    pub(super) field: Option<String>,
}

/// Active health checks.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Health")]
pub(super) struct RawHealth {
    /// Whether endpoints are checked; without a word only those of pools without `tls` are.
    pub(super) enabled: Option<bool>,
    /// The path that is asked with GET.
    #[schemars(length(min = 1, max = 2048))]
    pub(super) path: String,
    /// The time between two checks.
    pub(super) interval: RawDuration,
    /// How long a check may take.
    pub(super) timeout: RawDuration,
    /// How many good checks bring an endpoint back.
    #[schemars(range(min = 1, max = 100))]
    pub(super) healthy_after: u32,
    /// How many bad checks take an endpoint out.
    #[schemars(range(min = 1, max = 100))]
    pub(super) unhealthy_after: u32,
    /// The statuses of a good check.
    #[schemars(length(min = 1, max = 32), inner(range(min = 100, max = 599)))]
    pub(super) status: Vec<u16>,
}

impl Default for RawHealth {
    fn default() -> Self {
        Self {
            enabled: None,
            path: "/health".to_owned(),
            interval: RawDuration(Duration::from_secs(5)),
            timeout: RawDuration(Duration::from_secs(1)),
            healthy_after: 1,
            unhealthy_after: 2,
            status: vec![200],
        }
    }
}

/// When an endpoint that keeps failing is left out.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Ejection")]
pub(super) struct RawEjection {
    /// How many failures in a row; 0 turns ejection off.
    #[schemars(range(max = 10_000))]
    pub(super) consecutive_failures: u32,
    /// How long it is left out the first time; twice as long each further time.
    pub(super) base: RawDuration,
    /// The longest time it is left out.
    pub(super) max: RawDuration,
    /// The largest share of a pool that may be left out, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) max_share: f64,
}

impl Default for RawEjection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base: RawDuration(Duration::from_secs(10)),
            max: RawDuration(Duration::from_secs(300)),
            max_share: 0.5,
        }
    }
}
