//! Owns for how long responses are kept that their upstreams do not keep, and how many. Refuses to open the store.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;
use super::{CacheSpec, CacheStore};

/// The responses of `/v1/responses` that are kept where their upstreams speak another API: in this process, or in the
/// server that the cache is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Responses")]
pub struct KeptResponses {
    /// Whether any are kept.
    pub keep: bool,
    /// For how long each is kept.
    #[serde(with = "DurationText")]
    pub ttl: Duration,
    /// How many at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_entries: usize,
    /// How many bytes at most.
    #[schemars(range(min = 1_024))]
    pub max_bytes: usize,
    /// The longest that is kept, with all that it goes on from, in bytes.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub max_response_bytes: usize,
}

impl Default for KeptResponses {
    fn default() -> Self {
        Self {
            keep: true,
            ttl: Duration::from_secs(3600),
            max_entries: 10_000,
            max_bytes: 64 << 20,
            max_response_bytes: 4 << 20,
        }
    }
}

impl KeptResponses {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Self {
        if self.max_response_bytes > self.max_bytes {
            checker.issue(&path.key("max_response_bytes"), "must not be more than `max_bytes`");
        }
        self
    }

    /// Where they are kept, beside the cache of this policy.
    pub fn store(&self, cache: &CacheSpec) -> CacheSpec {
        let store = match &cache.store {
            CacheStore::Memory { .. } => CacheStore::Memory { persist: None },
            CacheStore::Redis { address, password, prefix, timeout } => CacheStore::Redis {
                address: address.clone(),
                password: password.clone(),
                prefix: format!("{prefix}responses:"),
                timeout: *timeout,
            },
        };
        CacheSpec {
            store,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            max_answer_bytes: self.max_response_bytes,
        }
    }
}
