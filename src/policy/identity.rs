//! Owns who clients are, and on what grounds that is believed. Refuses to know requests.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::issue::YamlPath;
use super::plugins::header_name;
use super::secret::SecretSource;

/// Who clients are, and on what grounds that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whether a request without a verified client is refused.
    pub required: bool,
    /// Whose the keys are that clients show, by the keys' SHA-256: a key that is looked up takes as long whatever
    /// it is.
    pub keys: HashMap<[u8; 32], Principal>,
    /// The networks of peers whose identity headers are believed.
    pub trusted_peers: Vec<IpNet>,
    /// The groups whose members may see which signals matched.
    pub debug_groups: Vec<String>,
    /// The names of these headers, in lower case.
    pub headers: IdentityHeaders,
}

impl Identity {
    /// Whether a peer's identity headers are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_peers.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    /// Finds whose a key is.
    pub fn owner(&self, key: &str) -> Option<&Principal> {
        self.keys.get(&digest(key))
    }

    /// Whether any client can be verified.
    pub fn is_used(&self) -> bool {
        !self.keys.is_empty() || !self.trusted_peers.is_empty()
    }
}

/// Gives a key's SHA-256.
fn digest(key: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A verified client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// The user.
    #[schemars(length(min = 1, max = 256))]
    pub user: String,
    /// The user's groups.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub groups: Vec<String>,
    /// The user's tenant.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// The names of the headers that say who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityHeaders {
    /// The user.
    pub user: String,
    /// The groups, with commas between them.
    pub groups: String,
    /// The tenant.
    pub tenant: String,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            user: "x-authz-user-id".to_owned(),
            groups: "x-authz-user-groups".to_owned(),
            tenant: "x-authz-tenant-id".to_owned(),
        }
    }
}

/// Who clients are: what is believed of them, and on what grounds.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Identity")]
pub(super) struct RawIdentity {
    /// Whether a request without a verified client is refused with 401.
    required: bool,
    /// Keys that clients show as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`, and whose they are.
    #[schemars(length(max = 10_000))]
    keys: Vec<RawKey>,
    /// The networks of peers whose identity headers are believed, such as `10.0.0.0/8`.
    #[schemars(length(max = 256))]
    trusted_peers: Vec<String>,
    /// The groups whose members, like trusted peers, see with `x-vsr-debug: true` which signals matched.
    #[schemars(length(max = 256))]
    debug_groups: Vec<String>,
    /// The names of these headers.
    headers: IdentityHeaders,
}

/// One key and whose it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Key", deny_unknown_fields)]
struct RawKey {
    /// Where the key is, never the key itself.
    value: SecretSource,
    #[serde(flatten)]
    owner: Principal,
}

impl RawIdentity {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Identity {
        if self.required && self.keys.is_empty() && self.trusted_peers.is_empty() {
            checker.issue(
                &path.key("required"),
                "without `keys` and `trusted_peers` every request would be refused",
            );
        }
        let keys = keys(self.keys, &path.key("keys"), checker);
        let trusted_peers = networks(&self.trusted_peers, &path.key("trusted_peers"), checker);
        let path = path.key("headers");
        let mut header = |key: &str, name: &str| header_name(name, &path.key(key), checker);
        Identity {
            required: self.required,
            keys,
            trusted_peers,
            debug_groups: self.debug_groups,
            headers: IdentityHeaders {
                user: header("user", &self.headers.user),
                groups: header("groups", &self.headers.groups),
                tenant: header("tenant", &self.headers.tenant),
            },
        }
    }
}

fn keys(raw: Vec<RawKey>, path: &YamlPath, checker: &mut Checker<'_>) -> HashMap<[u8; 32], Principal> {
    let mut keys = HashMap::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let path = path.index(index).key("value");
        let Some(key) = raw.value.check(&path, checker) else { continue };
        if keys.insert(digest(&key), raw.owner).is_some() {
            checker.issue(&path, "another key has the same value");
        }
    }
    keys
}

fn networks(raw: &[String], path: &YamlPath, checker: &mut Checker<'_>) -> Vec<IpNet> {
    let mut networks = Vec::with_capacity(raw.len());
    for (index, text) in raw.iter().enumerate() {
        if let Ok(network) = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            networks.push(network);
        } else {
            let message = format!("`{text}` is neither a network such as `10.0.0.0/8` nor an address");
            checker.issue(&path.index(index), message);
        }
    }
    networks
}
