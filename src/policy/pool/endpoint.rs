//! Owns one address of a pool and the forms in which operators write it. Refuses to resolve names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::issue::YamlPath;

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
    address: String,
    /// The share of requests relative to the other endpoints; 0 takes none.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    weight: u32,
}

fn one() -> u32 {
    1
}

pub(super) fn endpoints(
    raw: &[RawEndpoint],
    path: &YamlPath,
    checker: &mut Checker<'_>,
) -> Vec<EndpointSpec> {
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
            Err(error) => checker.issue(&path, format!("`{address}` {error}")),
        }
    }
    let complete = !raw.is_empty() && endpoints.len() == raw.len();
    if complete && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        checker.issue(path, "no endpoint has a weight above 0");
    }
    endpoints
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("has no port; write `host:port`")]
    NoPort,
    #[error("has no valid port; write `host:port` with a port from 1 to 65535")]
    Port,
    #[error("is not an address; write `host:port`, without a scheme or a path")]
    Host,
    #[error("is an IPv6 address without brackets; write `[address]:port`")]
    Brackets,
}

/// Splits `host:port`; the host is a DNS name or an IP address, IPv6 without its brackets.
pub(crate) fn parse_address(text: &str) -> Result<(String, u16), AddressError> {
    if text.contains('/') {
        return Err(AddressError::Host);
    }
    let port = |port: &str| match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(AddressError::Port),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Host)?;
        let address: std::net::Ipv6Addr = host.parse().map_err(|_| AddressError::Host)?;
        let digits = rest.strip_prefix(':').ok_or(AddressError::NoPort)?;
        return Ok((address.to_string(), port(digits)?));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(AddressError::Brackets);
    }
    let (host, digits) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
    if !is_host(host) {
        return Err(AddressError::Host);
    }
    Ok((host.to_owned(), port(digits)?))
}

/// Whether a text is an IPv4 address or has the form of a DNS name.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_into_host_and_port() {
        let parsed = |text| parse_address(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parsed("127.0.0.1:8001").as_deref(), Ok("127.0.0.1 8001"));
        assert_eq!(
            parsed("vllm-0.llm.svc.cluster.local:80").as_deref(),
            Ok("vllm-0.llm.svc.cluster.local 80")
        );
        assert_eq!(parsed("[::1]:8001").as_deref(), Ok("::1 8001"));
        assert_eq!(parsed("localhost"), Err(AddressError::NoPort));
        assert_eq!(parsed("[::1]"), Err(AddressError::NoPort));
        assert_eq!(parsed("::1"), Err(AddressError::Brackets));
        assert_eq!(parsed("host:0"), Err(AddressError::Port));
        assert_eq!(parsed("host:+80"), Err(AddressError::Port));
        assert_eq!(parsed("host:65536"), Err(AddressError::Port));
        assert_eq!(parsed("http://host:80"), Err(AddressError::Host));
        assert_eq!(parsed("ho st:80"), Err(AddressError::Host));
        assert_eq!(parsed(":80"), Err(AddressError::Host));
    }
}
