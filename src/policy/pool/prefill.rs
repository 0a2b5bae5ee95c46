//! Owns which pool computes the long prompts of another's requests, and how the results are handed over. Refuses to know
//! the endpoints of either.

use std::collections::HashSet;
use std::time::Duration;

use indexmap::{IndexMap, IndexSet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawPool;
use crate::PoolId;
use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// Where the long prompts of a pool's requests are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefillSpec {
    /// The pool whose endpoints compute them.
    pub pool: PoolId,
    /// How the pool's own endpoints get what was computed.
    pub connector: KvConnector,
    /// From how many tokens on that an endpoint does not have cached, at four bytes a token.
    pub min_uncached_tokens: u32,
    /// How long it may take, all tries together.
    pub timeout: Duration,
}

/// How the KV cache of a prompt gets from one engine to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvConnector {
    /// By `kv_transfer_params` out of the first engine's answer: vLLM's `NixlConnector`.
    Nixl,
    /// Through a store that both engines use; they are told nothing.
    SharedStorage,
}

/// Where the long prompts of this pool's requests are computed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Prefill")]
pub(super) struct RawPrefill {
    /// The pool whose endpoints compute them.
    pool: String,
    /// How this pool's endpoints get what was computed.
    #[serde(default)]
    connector: RawKvConnector,
    /// From how many tokens on that the chosen endpoint probably does not have cached, at four bytes a token; shorter
    /// prompts are computed where they are answered. 512 when absent, or what the pool's `endpoint_picker` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 16_777_216))]
    min_uncached_tokens: Option<u32>,
    /// How long it may take, all tries together; after that the prompt is computed where it is answered.
    #[serde(default = "one_minute", with = "DurationText")]
    timeout: Duration,
}

/// How the KV cache of a prompt gets from one engine to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "KvConnector")]
enum RawKvConnector {
    /// vLLM's `NixlConnector`.
    #[default]
    Nixl,
    /// A store that both engines use, such as `LMCache`'s or vLLM's `SharedStorageConnector`.
    SharedStorage,
    /// Not supported.
    Sglang,
    /// Not supported.
    Mooncake,
    /// Not supported.
    Moriio,
    /// Not supported.
    Offloading,
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// The least number of tokens that are worth the way where nothing else is said.
const DEFAULT_UNCACHED: u32 = 512;

impl RawPrefill {
    /// Takes a scheduler's word for the least number of tokens, unless the operator has given one.
    pub(super) fn or_min_uncached(self, tokens: Option<u32>) -> Self {
        Self { min_uncached_tokens: self.min_uncached_tokens.or(tokens), ..self }
    }

    /// Resolves the pool's name, which the pool `own` has written.
    pub(super) fn check(
        self,
        own: &str,
        pools: &PoolNames,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> Option<PrefillSpec> {
        let connector = self.connector.check(&path.key("connector"), checker);
        if self.timeout < Duration::from_millis(1) {
            checker.issue(&path.key("timeout"), "must be at least 1ms");
        }
        let path = path.key("pool");
        let Some(pool) = pools.names.get_index_of(&self.pool) else {
            checker.unknown(&path, "pool", &self.pool, pools.names.iter().map(String::as_str));
            return None;
        };
        if self.pool == own {
            checker.issue(&path, "must be another pool");
        } else if pools.disaggregated.contains(&self.pool) {
            checker.issue(&path, format!("`{}` has a `prefill` of its own", self.pool));
        }
        Some(PrefillSpec {
            pool: PoolId(pool),
            connector: connector?,
            min_uncached_tokens: self.min_uncached_tokens.unwrap_or(DEFAULT_UNCACHED),
            timeout: self.timeout,
        })
    }
}

impl RawKvConnector {
    fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<KvConnector> {
        let why_not = match self {
            Self::Nixl => return Some(KvConnector::Nixl),
            Self::SharedStorage => return Some(KvConnector::SharedStorage),
            Self::Sglang => {
                "its engines for answers compute no prompt themselves, so that nothing can be fallen back on"
            }
            Self::Mooncake | Self::Moriio | Self::Offloading => {
                "its engines must be told of each other before either begins"
            }
        };
        checker.issue(path, format!("is not supported: {why_not}; use `nixl` or `shared_storage`"));
        None
    }
}

/// The pools of a policy, as far as one must know the others.
pub(crate) struct PoolNames {
    names: IndexSet<String>,
    /// Those that have a `prefill`.
    disaggregated: HashSet<String>,
    /// Those that another's `prefill` names.
    prefilling: HashSet<String>,
}

/// What the endpoints of a pool are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolRole {
    /// Whole requests.
    Whole,
    /// The prompts of another pool's requests.
    Prefill,
    /// Answers to prompts that another pool may have computed.
    Decode,
}

impl PoolNames {
    pub(crate) fn of(pools: &IndexMap<String, RawPool>) -> Self {
        let having = || pools.iter().filter_map(|(name, pool)| Some((name, pool.prefill.as_ref()?)));
        Self {
            names: pools.keys().cloned().collect(),
            disaggregated: having().map(|(name, _)| name.clone()).collect(),
            prefilling: having().map(|(_, prefill)| prefill.pool.clone()).collect(),
        }
    }

    pub(super) fn role(&self, name: &str) -> PoolRole {
        if self.disaggregated.contains(name) {
            PoolRole::Decode
        } else if self.prefilling.contains(name) {
            PoolRole::Prefill
        } else {
            PoolRole::Whole
        }
    }
}
