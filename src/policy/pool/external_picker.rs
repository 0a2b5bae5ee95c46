//! Owns where a pool's external endpoint picker is, how it is reached, and what holds without it. Refuses to know its
//! protocol.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::{is_host, parse_address};
use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// A server of the Gateway API inference extension's endpoint-picker protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExternalPicker {
    /// A DNS name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
    /// TLS towards it, if it is used.
    pub tls: Option<PickerTls>,
    /// What holds where it does not answer.
    pub failure_mode: FailureMode,
    /// How long it may take to pick, what it queues the request for included.
    pub timeout: Duration,
}

/// TLS towards an endpoint picker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PickerTls {
    /// The name in SNI and in the certificate.
    pub server_name: String,
    /// Which certificates are taken.
    pub trust: PickerTrust,
}

/// Which certificates of an endpoint picker are taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PickerTrust {
    /// Those of the system's authorities.
    System,
    /// Those of these authorities, as PEM.
    Authorities(Vec<u8>),
    /// Any: pickers make one of their own at start.
    Anything,
}

/// What holds where an endpoint picker gives no usable answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    /// The request is refused.
    #[default]
    FailClose,
    /// The less busy of two endpoints taken at random gets the request.
    FailOpen,
}

/// A server of the Gateway API inference extension's endpoint-picker protocol (Envoy's `ext_proc`).
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExternalPicker")]
pub(super) struct RawExternalPicker {
    /// `host:port`, as a rule port 9002.
    address: String,
    /// TLS and its settings; present, even as `{}`, means TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawPickerTls")]
    tls: Option<RawPickerTls>,
    /// What holds where it does not answer, or names no endpoint of the pool that is available.
    #[serde(default)]
    failure_mode: FailureMode,
    /// How long it may take to pick; a picker with flow control keeps requests waiting meanwhile.
    #[serde(default = "thirty_seconds", with = "DurationText")]
    timeout: Duration,
}

/// TLS towards an endpoint picker.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PickerTls")]
struct RawPickerTls {
    /// The name in SNI and in the certificate; the address's host when absent.
    server_name: Option<String>,
    /// A PEM file of the authorities to trust instead of the system's.
    ca_file: Option<String>,
    /// Whether any certificate is taken: pickers make one of their own at start unless they are given one.
    insecure_skip_verify: bool,
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

impl RawExternalPicker {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<ExternalPicker> {
        let (host, port) = match parse_address(&self.address) {
            Ok(address) => address,
            Err(error) => {
                checker.issue(&path.key("address"), format!("`{}` {error}", self.address));
                return None;
            }
        };
        let tls = self.tls.map(|tls| tls.check(&host, &path.key("tls"), checker));
        Some(ExternalPicker { host, port, tls, failure_mode: self.failure_mode, timeout: self.timeout })
    }
}

impl RawPickerTls {
    fn check(self, host: &str, path: &YamlPath, checker: &mut Checker<'_>) -> PickerTls {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let server_name = given(self.server_name).unwrap_or_else(|| host.to_owned());
        if !is_host(&server_name) && server_name.parse::<std::net::IpAddr>().is_err() {
            checker.issue(&path.key("server_name"), format!("`{server_name}` is not a host's name"));
        }
        let trust = match (given(self.ca_file), self.insecure_skip_verify) {
            (None, false) => PickerTrust::System,
            (None, true) => PickerTrust::Anything,
            (Some(file), is_any) => {
                if is_any {
                    let message = "takes any certificate, whatever `ca_file` says; leave one of the two out";
                    checker.issue(&path.key("insecure_skip_verify"), message);
                }
                let pem = checker.pem(&path.key("ca_file"), &file, "CERTIFICATE");
                PickerTrust::Authorities(pem.unwrap_or_default())
            }
        };
        PickerTls { server_name, trust }
    }
}
