//! Owns the connection to a pool: plaintext or TLS, and the Host header. Refuses to open one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::{EndpointSpec, is_host};
use crate::Secret;
use crate::checker::Checker;
use crate::issue::YamlPath;

/// The connection to a pool's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Without TLS.
    Plain {
        /// Whether it is HTTP/2 with prior knowledge, instead of HTTP/1.1.
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
    server_name: Option<String>,
    /// The protocols offered, `h2` and `http/1.1`.
    #[schemars(length(min = 1, max = 2))]
    alpn: Vec<RawAlpn>,
    /// A PEM file of the authorities to trust instead of the system's; empty means the system's.
    ca_file: Option<String>,
    /// A PEM file with the client certificate and its chain.
    client_cert_file: Option<String>,
    /// A PEM file with the client certificate's key.
    client_key_file: Option<String>,
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
enum RawAlpn {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
}

/// Gives the connection that `protocol` and `tls` of the pool at `path` describe.
pub(super) fn transport(
    protocol: Option<RawProtocol>,
    tls: Option<RawTls>,
    endpoints: &[EndpointSpec],
    path: &YamlPath,
    checker: &mut Checker<'_>,
) -> Transport {
    let Some(tls) = tls else {
        return Transport::Plain { h2c: protocol == Some(RawProtocol::H2c) };
    };
    if protocol.is_some() {
        checker.issue(&path.key("protocol"), "is for plaintext; a pool with `tls` has `tls.alpn`");
    }
    let path = path.key("tls");
    Transport::Tls {
        server_name: server_name(&tls, endpoints, &path, checker),
        alpn: alpn(&tls.alpn, &path.key("alpn"), checker),
        ca: set(tls.ca_file.as_ref()).and_then(|file| checker.pem(&path.key("ca_file"), file, "CERTIFICATE")),
        client: client_cert(&tls, &path, checker),
    }
}

/// Takes an optional text that may have expanded to nothing.
fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn server_name(
    tls: &RawTls,
    endpoints: &[EndpointSpec],
    path: &YamlPath,
    checker: &mut Checker<'_>,
) -> String {
    let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
    if let Some(name) = set(tls.server_name.as_ref()) {
        if !is_host(name) && !is_address(name) {
            checker.issue(&path.key("server_name"), format!("`{name}` is not a host's name"));
        }
        return name.to_owned();
    }
    match endpoints.first() {
        Some(first) if !is_address(&first.host) => first.host.clone(),
        Some(_) => {
            let message =
                "needs `server_name`, since the first endpoint's address has no name to take it from";
            checker.issue(path, message);
            String::new()
        }
        None => String::new(),
    }
}

fn alpn(raw: &[RawAlpn], path: &YamlPath, checker: &mut Checker<'_>) -> Alpn {
    match raw {
        [RawAlpn::H2] => Alpn::H2,
        [RawAlpn::Http1] => Alpn::Http1,
        [RawAlpn::H2, RawAlpn::Http1] => Alpn::Both,
        [RawAlpn::Http1, RawAlpn::H2] => {
            checker.issue(path, "`h2` is always preferred; write `[h2, http/1.1]`");
            Alpn::Both
        }
        _ => {
            checker.issue(path, "a protocol stands twice");
            Alpn::Both
        }
    }
}

fn client_cert(tls: &RawTls, path: &YamlPath, checker: &mut Checker<'_>) -> Option<ClientCert> {
    match (set(tls.client_cert_file.as_ref()), set(tls.client_key_file.as_ref())) {
        (None, None) => None,
        (Some(_), None) => {
            checker.issue(&path.key("client_cert_file"), "needs `client_key_file` beside it");
            None
        }
        (None, Some(_)) => {
            checker.issue(&path.key("client_key_file"), "needs `client_cert_file` beside it");
            None
        }
        (Some(cert), Some(key)) => {
            let cert = checker.pem(&path.key("client_cert_file"), cert, "CERTIFICATE");
            let key = checker.pem(&path.key("client_key_file"), key, "PRIVATE KEY");
            let key = String::from_utf8_lossy(&key?).into_owned();
            Some(ClientCert { cert: cert?, key: Secret::new(key) })
        }
    }
}

/// Gives the Host header: the one given, else the TLS name, else each endpoint's address.
pub(super) fn host_rule(
    raw: Option<String>,
    transport: &Transport,
    path: &YamlPath,
    checker: &mut Checker<'_>,
) -> HostRule {
    match (raw.filter(|host| !host.is_empty()), transport) {
        (Some(host), _) => {
            let bare = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            let bracketed = host.starts_with('[') && host.parse::<http::uri::Authority>().is_ok();
            if !bracketed && !is_host(bare.map_or(&host, |(host, _)| host)) {
                checker.issue(path, format!("`{host}` is not a Host header"));
            }
            HostRule::Fixed(host)
        }
        (None, Transport::Tls { server_name, .. }) => HostRule::Fixed(server_name.clone()),
        (None, Transport::Plain { .. }) => HostRule::Endpoint,
    }
}
