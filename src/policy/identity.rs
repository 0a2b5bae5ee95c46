//! Owns who clients are and where answers are kept, as the operator wants it, checked and final. Refuses to know
//! requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::Secret;

/// Who clients are, and on what grounds that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whether a request of nobody known is refused.
    pub required: bool,
    /// Whose the keys are that clients show, by the keys' SHA-256: a key that is looked up takes as long whatever
    /// it is.
    pub keys: HashMap<[u8; 32], Principal>,
    /// The networks of peers whose identity headers are believed.
    pub trusted_peers: Vec<IpNet>,
    /// The groups whose members may see which signals matched.
    pub debug_groups: Vec<String>,
    /// The header with the user, in lower case.
    pub user_header: String,
    /// The header with the groups.
    pub groups_header: String,
    /// The header with the tenant.
    pub tenant_header: String,
}

impl Identity {
    /// Whether what a peer says of its clients is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_peers.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    /// Finds whose a key is.
    pub fn owner(&self, key: &str) -> Option<&Principal> {
        self.keys.get(&digest(key))
    }

    /// Whether anybody can be known at all.
    pub fn is_used(&self) -> bool {
        !self.keys.is_empty() || !self.trusted_peers.is_empty()
    }
}

/// Gives a key's SHA-256.
pub(super) fn digest(key: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A verified client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The user's tenant.
    pub tenant: Option<String>,
}

/// Where answers are kept that are given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Where.
    pub store: CacheStore,
    /// How many at most.
    pub max_entries: usize,
    /// How many bytes at most.
    pub max_bytes: usize,
    /// The longest answer that is kept, in bytes.
    pub max_answer_bytes: usize,
}

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStore {
    /// In this process.
    Memory {
        /// A file that keeps them over a restart.
        persist: Option<PathBuf>,
    },
    /// In a Redis or Valkey server.
    Redis {
        /// Its address.
        address: String,
        /// What opens it.
        password: Option<Secret>,
        /// Put before each key.
        prefix: String,
        /// How long a command may take.
        timeout: Duration,
    },
}

/// What a model costs, in millionths of the currency for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The currency.
    pub currency: String,
    /// For tokens of the prompt.
    pub prompt_micros: u64,
    /// For tokens of the answer.
    pub completion_micros: u64,
    /// For tokens of the prompt that the upstream had cached.
    pub cached_micros: u64,
}

impl Price {
    /// Gives the cost of a request, in the currency; of `prompt` tokens `cached` were cached.
    pub fn cost(&self, prompt: u64, cached: u64, completion: u64) -> f64 {
        let cached = cached.min(prompt);
        let of = |tokens: u64, micros: u64| tokens as f64 * (micros as f64 / 1e12);
        of(prompt - cached, self.prompt_micros)
            + of(cached, self.cached_micros)
            + of(completion, self.completion_micros)
    }
}
