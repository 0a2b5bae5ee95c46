//! Owns what one pool's settings mean together. Refuses to know the other pools and the models.

use super::check_secret::secret;
use super::checker::{Checker, is_host, parse_address};
use super::issue::Path;
use super::raw_pool::{
    RawAlpn, RawBalance, RawCredential, RawEndpoint, RawHashOn, RawHealth, RawPool, RawProtocol, RawStrategy,
    RawTls,
};
use super::{
    Alpn, Balance, BasisPoints, ClientCert, Credential, Ejection, EndpointSpec, HashKey, Health, HostRule,
    PoolSpec, Secret, Timeouts, Transport,
};

/// Headers that frame the message or name its target; a credential may not stand in them.
const RESERVED_HEADERS: [&str; 8] =
    ["connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding", "upgrade"];

/// Turns a raw pool into the final one.
pub(super) fn pool(name: &str, raw: &RawPool, path: &Path, checker: &mut Checker<'_>) -> PoolSpec {
    checker.name(path, name);
    let endpoints = endpoints(&raw.endpoints, &path.key("endpoints"), checker);
    let transport = transport(raw, &endpoints, path, checker);
    let credential =
        raw.credential.as_ref().and_then(|raw| credential(raw, &path.key("credential"), checker));
    if raw.forward_authorization && credential.as_ref().is_some_and(|own| own.header == "authorization") {
        let path = path.key("forward_authorization");
        checker.issue(&path, "has no effect beside a credential in `authorization`");
    }
    PoolSpec {
        name: name.to_owned(),
        host: host(raw, &transport, &path.key("host"), checker),
        endpoints,
        transport,
        path_prefix: path_prefix(raw.path_prefix.as_deref(), &path.key("path_prefix"), checker),
        credential,
        forward_authorization: raw.forward_authorization,
        timeouts: timeouts(raw, &path.key("timeouts"), checker),
        balance: balance(&raw.balance, &path.key("balance"), checker),
        health: health(&raw.health, raw.tls.is_some(), &path.key("health"), checker),
        ejection: ejection(raw, &path.key("ejection"), checker),
        resolve_interval: checker.positive(&path.key("resolve_interval"), raw.resolve_interval),
    }
}

fn endpoints(raw: &[RawEndpoint], path: &Path, checker: &mut Checker<'_>) -> Vec<EndpointSpec> {
    let mut endpoints: Vec<EndpointSpec> = Vec::with_capacity(raw.len());
    for (index, endpoint) in raw.iter().enumerate() {
        let path = path.index(index);
        let (address, path, weight) = match endpoint {
            RawEndpoint::Address(address) => (address, path, 1),
            RawEndpoint::Full(full) => (&full.address, path.key("address"), full.weight),
        };
        match parse_address(address) {
            Ok((host, port)) if endpoints.iter().any(|other| other.host == host && other.port == port) => {
                checker.issue(&path, format!("`{address}` stands twice"));
            }
            Ok((host, port)) => endpoints.push(EndpointSpec { host, port, weight }),
            Err(fault) => checker.issue(&path, format!("`{address}` {fault}")),
        }
    }
    let complete = !raw.is_empty() && endpoints.len() == raw.len();
    if complete && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        checker.issue(path, "no endpoint has a weight above 0");
    }
    endpoints
}

fn transport(raw: &RawPool, endpoints: &[EndpointSpec], path: &Path, checker: &mut Checker<'_>) -> Transport {
    let Some(tls) = &raw.tls else {
        return Transport::Plain { h2c: raw.protocol == Some(RawProtocol::H2c) };
    };
    if raw.protocol.is_some() {
        checker.issue(&path.key("protocol"), "is for plaintext; a pool with `tls` has `tls.alpn`");
    }
    let path = path.key("tls");
    Transport::Tls {
        server_name: server_name(tls, endpoints, &path, checker),
        alpn: alpn(&tls.alpn, &path.key("alpn"), checker),
        ca: set(tls.ca_file.as_ref()).and_then(|file| checker.pem(&path.key("ca_file"), file, "CERTIFICATE")),
        client: client_cert(tls, &path, checker),
    }
}

/// Takes an optional text that may have expanded to nothing.
fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn server_name(tls: &RawTls, endpoints: &[EndpointSpec], path: &Path, checker: &mut Checker<'_>) -> String {
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

fn alpn(raw: &[RawAlpn], path: &Path, checker: &mut Checker<'_>) -> Alpn {
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

fn client_cert(tls: &RawTls, path: &Path, checker: &mut Checker<'_>) -> Option<ClientCert> {
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

fn host(raw: &RawPool, transport: &Transport, path: &Path, checker: &mut Checker<'_>) -> HostRule {
    match (set(raw.host.as_ref()), transport) {
        (Some(host), _) => {
            let bare = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            let bracketed = host.starts_with('[') && host.parse::<http::uri::Authority>().is_ok();
            if !bracketed && !is_host(bare.map_or(host, |(host, _)| host)) {
                checker.issue(path, format!("`{host}` is not a Host header"));
            }
            HostRule::Fixed(host.to_owned())
        }
        (None, Transport::Tls { server_name, .. }) => HostRule::Fixed(server_name.clone()),
        (None, Transport::Plain { .. }) => HostRule::Endpoint,
    }
}

fn path_prefix(raw: Option<&str>, path: &Path, checker: &mut Checker<'_>) -> String {
    let prefix = raw.unwrap_or_default().trim_end_matches('/');
    let allowed = |c: char| c.is_ascii_graphic() && !"?#\"<>\\^`{|}".contains(c);
    let is_path = prefix.starts_with('/') && prefix.chars().all(allowed);
    if !prefix.is_empty() && !is_path {
        checker.issue(path, "must start with `/` and be a path alone");
    }
    prefix.to_owned()
}

fn credential(raw: &RawCredential, path: &Path, checker: &mut Checker<'_>) -> Option<Credential> {
    let header = header_name(&raw.header, &path.key("header"), checker);
    let (path, secret) = secret(&raw.value, &path.key("value"), checker);
    let secret = match secret {
        Ok(secret) => secret,
        Err(fault) => {
            if !(raw.optional && fault.is_absence()) {
                checker.issue(&path, fault.to_string());
            }
            return None;
        }
    };
    let bearer = if header.as_deref() == Some("authorization") { "Bearer " } else { "" };
    let value = format!("{}{secret}", raw.prefix.as_deref().unwrap_or(bearer));
    if http::HeaderValue::from_str(&value).is_err() {
        checker.issue(&path, "the secret has characters that a header cannot carry");
        return None;
    }
    Some(Credential { header: header?, value: Secret::new(value) })
}

fn header_name(raw: &str, path: &Path, checker: &mut Checker<'_>) -> Option<String> {
    match http::HeaderName::from_bytes(raw.as_bytes()) {
        Ok(name) if RESERVED_HEADERS.contains(&name.as_str()) => {
            checker.issue(path, format!("`{name}` is set by the gateway itself"));
        }
        Ok(name) => return Some(name.as_str().to_owned()),
        Err(_) => checker.issue(path, format!("`{raw}` is not a header's name")),
    }
    None
}

fn timeouts(raw: &RawPool, path: &Path, checker: &mut Checker<'_>) -> Timeouts {
    let raw = &raw.timeouts;
    Timeouts {
        connect: checker.positive(&path.key("connect"), raw.connect),
        first_byte: checker.positive(&path.key("first_byte"), raw.first_byte),
        idle: checker.positive(&path.key("idle"), raw.idle),
        total: checker.positive(&path.key("total"), raw.total),
    }
}

fn balance(raw: &RawBalance, path: &Path, checker: &mut Checker<'_>) -> Balance {
    match (raw.strategy, &raw.hash_on) {
        (RawStrategy::Hash, Some(on)) => {
            hash_key(on, &path.key("hash_on"), checker).map_or(Balance::LeastRequest, Balance::Hash)
        }
        (RawStrategy::Hash, None) => {
            checker.issue(path, "the strategy `hash` needs `hash_on`");
            Balance::LeastRequest
        }
        (_, Some(_)) => {
            checker.issue(&path.key("hash_on"), "is for the strategy `hash` alone");
            Balance::LeastRequest
        }
        (RawStrategy::RoundRobin, None) => Balance::RoundRobin,
        (RawStrategy::LeastRequest, None) => Balance::LeastRequest,
    }
}

fn hash_key(raw: &RawHashOn, path: &Path, checker: &mut Checker<'_>) -> Option<HashKey> {
    match (&raw.header, &raw.field) {
        (Some(header), None) => {
            let name = http::HeaderName::from_bytes(header.as_bytes());
            if name.is_err() {
                checker.issue(&path.key("header"), format!("`{header}` is not a header's name"));
            }
            Some(HashKey::Header(name.ok()?.as_str().to_owned()))
        }
        (None, Some(field)) if !field.is_empty() => Some(HashKey::Field(field.clone())),
        (None, Some(_)) => {
            checker.issue(&path.key("field"), "must not be empty");
            None
        }
        _ => {
            checker.issue(path, "needs exactly one of `header` and `field`");
            None
        }
    }
}

fn health(raw: &RawHealth, tls: bool, path: &Path, checker: &mut Checker<'_>) -> Option<Health> {
    if !raw.path.starts_with('/') || !raw.path.chars().all(|c| c.is_ascii_graphic()) {
        checker.issue(&path.key("path"), "must start with `/` and have no white space");
    }
    let health = Health {
        path: raw.path.clone(),
        interval: checker.positive(&path.key("interval"), raw.interval),
        timeout: checker.positive(&path.key("timeout"), raw.timeout),
        healthy_after: raw.healthy_after,
        unhealthy_after: raw.unhealthy_after,
        status: raw.status.clone(),
    };
    raw.enabled.unwrap_or(!tls).then_some(health)
}

fn ejection(raw: &RawPool, path: &Path, checker: &mut Checker<'_>) -> Option<Ejection> {
    let raw = &raw.ejection;
    let base = checker.positive(&path.key("base"), raw.base);
    let max = checker.positive(&path.key("max"), raw.max);
    if max < base {
        checker.issue(&path.key("max"), "is shorter than `base`");
    }
    let ejection = Ejection {
        consecutive_failures: raw.consecutive_failures,
        base,
        max,
        max_share: BasisPoints::from_fraction(raw.max_share),
    };
    (raw.consecutive_failures > 0).then_some(ejection)
}
