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
    /// By the peer-to-peer tier of vLLM's `OffloadingConnector`.
    Offloading {
        /// Where the tier of the engine that computes prompts listens.
        port: u16,
    },
    /// By vLLM's `MooncakeConnector`.
    Mooncake {
        /// Where the bootstrap server of the engine that computes prompts listens.
        bootstrap_port: u16,
    },
    /// Between engines of `SGLang`, both of which have the request at the same time; neither can do without the other.
    Sglang {
        /// Where the bootstrap server of the engine that computes prompts listens.
        bootstrap_port: u16,
    },
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
    /// Where engines that compute prompts listen for those that fetch them: 8998 when absent with `mooncake` and `sglang`
    /// (their bootstrap server), 7777 with `offloading` (its peer-to-peer tier). For these three alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1))]
    port: Option<u16>,
    /// From how many tokens on that the chosen endpoint probably does not have cached, at four bytes a token; shorter
    /// prompts are computed where they are answered. 512 when absent, or what the pool's `endpoint_picker` says. Not with
    /// `sglang`.
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
    /// The peer-to-peer tier of vLLM's `OffloadingConnector`.
    Offloading,
    /// vLLM's `MooncakeConnector`.
    Mooncake,
    /// `SGLang`'s engines in `--disaggregation-mode`, whatever their transfer backend is.
    Sglang,
    /// Not supported.
    Moriio,
    /// Not supported.
    P2pNccl,
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
        let connector = self.connector.check(self.port, path, checker);
        if matches!(connector, Some(KvConnector::Sglang { .. }))
            && self.min_uncached_tokens.is_some_and(|least| least > 0)
        {
            let why = "is not for `sglang`: its engines for answers compute no prompt themselves";
            checker.issue(&path.key("min_uncached_tokens"), why);
        }
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

/// The port of `SGLang`'s and Mooncake's bootstrap servers.
const BOOTSTRAP_PORT: u16 = 8998;

/// The port of the offloading connector's peer-to-peer tier.
const PEER_PORT: u16 = 7777;

impl RawKvConnector {
    fn check(self, port: Option<u16>, path: &YamlPath, checker: &mut Checker<'_>) -> Option<KvConnector> {
        let bootstrap_port = port.unwrap_or(BOOTSTRAP_PORT);
        let connector = match self {
            Self::Nixl => KvConnector::Nixl,
            Self::SharedStorage => KvConnector::SharedStorage,
            Self::Offloading => KvConnector::Offloading { port: port.unwrap_or(PEER_PORT) },
            Self::Mooncake => KvConnector::Mooncake { bootstrap_port },
            Self::Sglang => KvConnector::Sglang { bootstrap_port },
            Self::Moriio | Self::P2pNccl => {
                let why = "is not supported: its engines tell where they are to a registry of its own alone, and those for \
                           answers take every prompt for one that was computed elsewhere; use `nixl` or `mooncake`";
                checker.issue(&path.key("connector"), why);
                return None;
            }
        };
        if port.is_some() && matches!(self, Self::Nixl | Self::SharedStorage) {
            checker.issue(&path.key("port"), "is for `offloading`, `mooncake` and `sglang`");
        }
        Some(connector)
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
