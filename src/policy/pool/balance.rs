//! Owns how a pool's requests are spread over its endpoints, and when a failing endpoint is left out. Refuses to know
//! which endpoints are up: `balance` does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::schema::exactly_one_key;

use super::endpoint_picker::EndpointPickerConfig;
use super::external_picker::{ExternalPicker, RawExternalPicker};
use super::prefill::PoolRole;
use super::scorers::{Scorer, ScorerWeights, Scorers};

/// Which endpoint takes the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequest,
    /// The same endpoint for the same session.
    Hash(HashKey),
    /// The one where the request's first token has the least work before it.
    Auto,
    /// The one with the highest sum of scores.
    Scored(Scorers),
    /// The one that a server names which is asked for every request.
    External(ExternalPicker),
}

impl Balance {
    /// Whether it goes by the work before a request's first token.
    pub fn goes_by_work(&self) -> bool {
        matches!(self, Self::Auto | Self::Scored(_))
    }
}

/// Which endpoint takes the next request.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Balance")]
pub(crate) struct RawBalance {
    /// The way of choosing.
    strategy: RawBalanceStrategy,
    /// What requests of one session have in common; for `hash` and `session` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HashKey")]
    hash_on: Option<HashKey>,
    /// The scores that are summed, each with its weight; for `scored` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ScorerWeights")]
    scorers: Option<ScorerWeights>,
    /// An `EndpointPickerConfig`, as it is, in place of `scorers`; for `scored` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EndpointPickerConfig")]
    endpoint_picker: Option<EndpointPickerConfig>,
    /// The endpoint picker that is asked; for `external` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawExternalPicker")]
    external: Option<RawExternalPicker>,
}

/// A way of choosing an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BalanceStrategy")]
enum RawBalanceStrategy {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequest,
    /// The same endpoint for the same session.
    Hash,
    /// The same as `hash`.
    Session,
    /// `round_robin` as the vLLM production stack calls it.
    Roundrobin,
    /// `prefix` as the vLLM production stack calls it.
    Prefixaware,
    /// `kv_aware` as the vLLM production stack calls it.
    Kvaware,
    /// `auto` as the vLLM production stack calls it where prompts are computed elsewhere; for pools with `prefill`.
    DisaggregatedPrefill,
    /// The same.
    DisaggregatedPrefillOrchestrated,
    /// `least_request` as the vLLM router calls it.
    PowerOfTwo,
    /// `least_request` for the vLLM router's draw of one: of two that are drawn it takes the less busy.
    Random,
    /// `hash` for the vLLM router's sessions that stay.
    StickyLeastLoaded,
    /// The same.
    LeastConnSticky,
    /// The same.
    StickyRoundRobin,
    /// `hash` as the vLLM router calls it.
    ConsistentHash,
    /// The same.
    RendezvousHash,
    /// `prefix` as the vLLM router calls it.
    CacheAware,
    /// `kv_aware` as the vLLM router calls it.
    PreciseCacheAware,
    /// The endpoint where the request's first token has the least work before it: what of the prompt is not cached there,
    /// and what was sent there or waits there before.
    #[default]
    Auto,
    /// The endpoint that has most of the prompt cached; of equals the one with the fewest requests.
    Prefix,
    /// The weights of llm-d's scheduler: prefix 3, queue 2, KV cache 2, cold prompts in turn 2.
    #[serde(rename = "llm-d", alias = "llm_d")]
    LlmD,
    /// By prefix 2, KV cache 1 and queue 1, as engines report them.
    KvAware,
    /// The highest sum of `scorers`.
    Scored,
    /// As another process says, by the endpoint-picker protocol of the Gateway API inference extension.
    External,
}

impl RawBalanceStrategy {
    fn uses_key(self) -> bool {
        matches!(
            self,
            Self::Hash
                | Self::Session
                | Self::ConsistentHash
                | Self::RendezvousHash
                | Self::StickyLeastLoaded
                | Self::LeastConnSticky
                | Self::StickyRoundRobin
        )
    }
}

impl RawBalance {
    /// From how many uncached tokens on a scheduler's file has prompts computed elsewhere, where it says so.
    pub(super) fn min_uncached_tokens(&self) -> Option<u32> {
        self.endpoint_picker.as_ref()?.min_uncached_tokens()
    }

    pub(super) fn check(self, role: PoolRole, path: &YamlPath, checker: &mut Checker<'_>) -> Balance {
        let Self { strategy, hash_on, scorers, endpoint_picker, external } = self;
        let uses_key = strategy.uses_key();
        if hash_on.is_some() && !uses_key {
            checker.issue(&path.key("hash_on"), "is for the strategies `hash` and `session` alone");
        }
        if scorers.is_some() && strategy != RawBalanceStrategy::Scored {
            checker.issue(&path.key("scorers"), "is for the strategy `scored` alone");
        }
        if endpoint_picker.is_some() && strategy != RawBalanceStrategy::Scored {
            checker.issue(&path.key("endpoint_picker"), "is for the strategy `scored` alone");
        }
        if external.is_some() && strategy != RawBalanceStrategy::External {
            checker.issue(&path.key("external"), "is for the strategy `external` alone");
        }
        match strategy {
            RawBalanceStrategy::RoundRobin | RawBalanceStrategy::Roundrobin => Balance::RoundRobin,
            RawBalanceStrategy::LeastRequest
            | RawBalanceStrategy::PowerOfTwo
            | RawBalanceStrategy::Random => Balance::LeastRequest,
            RawBalanceStrategy::Hash
            | RawBalanceStrategy::Session
            | RawBalanceStrategy::ConsistentHash
            | RawBalanceStrategy::RendezvousHash
            | RawBalanceStrategy::StickyLeastLoaded
            | RawBalanceStrategy::LeastConnSticky
            | RawBalanceStrategy::StickyRoundRobin => {
                let Some(mut key) = hash_on else {
                    checker.issue(path, "the strategies `hash` and `session` need `hash_on`");
                    return Balance::Auto;
                };
                key.check(&path.key("hash_on"), checker);
                Balance::Hash(key)
            }
            RawBalanceStrategy::Auto => Balance::Auto,
            RawBalanceStrategy::DisaggregatedPrefill
            | RawBalanceStrategy::DisaggregatedPrefillOrchestrated => {
                if role != PoolRole::Decode {
                    let message = "needs `prefill`, which names the pool that computes prompts";
                    checker.issue(&path.key("strategy"), message);
                }
                Balance::Auto
            }
            RawBalanceStrategy::Prefix | RawBalanceStrategy::Prefixaware | RawBalanceStrategy::CacheAware => {
                Balance::Scored(Scorers::of([(Scorer::Prefix, 3), (Scorer::ActiveRequest, 1)]))
            }
            RawBalanceStrategy::LlmD => Balance::Scored(Scorers::of([
                (Scorer::Prefix, 3),
                (Scorer::Queue, 2),
                (Scorer::KvCache, 2),
                (Scorer::NoHitLru, 2),
            ])),
            RawBalanceStrategy::KvAware
            | RawBalanceStrategy::Kvaware
            | RawBalanceStrategy::PreciseCacheAware => {
                Balance::Scored(Scorers::of([(Scorer::Prefix, 2), (Scorer::KvCache, 1), (Scorer::Queue, 1)]))
            }
            RawBalanceStrategy::Scored => {
                let scorers = match (scorers, endpoint_picker) {
                    (Some(weights), None) => Some(weights.check(&path.key("scorers"), checker)),
                    (None, Some(config)) => Some(config.check(role, &path.key("endpoint_picker"), checker)),
                    _ => None,
                };
                if scorers.is_none() {
                    checker.issue(path, "the strategy `scored` needs one of `scorers` and `endpoint_picker`");
                }
                scorers.map_or(Balance::Auto, Balance::Scored)
            }
            RawBalanceStrategy::External => {
                if role != PoolRole::Whole {
                    let message = "`external` is not for pools with `prefill`, nor for those that it names";
                    checker.issue(&path.key("strategy"), message);
                }
                if external.is_none() {
                    checker
                        .issue(path, "the strategy `external` needs `external`, with the picker's address");
                }
                let picker = external.and_then(|picker| picker.check(&path.key("external"), checker));
                picker.map_or(Balance::Auto, Balance::External)
            }
        }
    }
}

/// What requests of one session have in common: exactly one of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(
    rename = "HashOn",
    transform = exactly_one_key,
    extend("x-expected" = "`{header: NAME}`, `{field: NAME}` or `{session_key: NAME}`")
)]
pub enum HashKey {
    /// A request header.
    Header(String),
    /// A string at the top level of the request's JSON body.
    Field(String),
    /// A request header, else a string of that name at the top level of the body, as the vLLM production stack's
    /// `--session-key`.
    SessionKey(String),
}

impl HashKey {
    /// Checks the name, and puts a header's in lower case.
    fn check(&mut self, path: &YamlPath, checker: &mut Checker<'_>) {
        match self {
            Self::Header(header) => match http::HeaderName::from_bytes(header.as_bytes()) {
                Ok(name) => name.as_str().clone_into(header),
                Err(_) => {
                    checker.issue(&path.key("header"), format!("`{header}` is not a header's name"));
                }
            },
            Self::SessionKey(name) if http::HeaderName::from_bytes(name.as_bytes()).is_err() => {
                checker.issue(&path.key("session_key"), format!("`{name}` is not a header's name"));
            }
            Self::Field(field) if field.is_empty() => {
                checker.issue(&path.key("field"), "must not be empty");
            }
            Self::Field(_) | Self::SessionKey(_) => {}
        }
    }
}

/// When an endpoint that keeps failing is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ejection {
    /// How many failures in a row; 0 turns ejection off.
    #[schemars(range(max = 10_000))]
    pub consecutive_failures: u32,
    /// How long it is left out the first time; twice as long each further time.
    #[serde(with = "DurationText")]
    pub base: Duration,
    /// The longest time it is left out.
    #[serde(with = "DurationText")]
    pub max: Duration,
    /// The largest share of a pool that may be left out, from 0 to 1.
    pub max_share: BasisPoints,
    /// How many times as long as the others of its pool, in the middle, an endpoint may take for the first tokens of its
    /// streams, in the mean of the last; 0 leaves none out for that.
    #[schemars(range(max = 1000))]
    pub slow_factor: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            max_share: BasisPoints(5000),
            slow_factor: 0,
        }
    }
}

impl Ejection {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<Self> {
        if self.max < self.base {
            checker.issue(&path.key("max"), "is shorter than `base`");
        }
        if self.slow_factor == 1 {
            checker.issue(&path.key("slow_factor"), "is 0 (off) or at least 2");
        }
        (self.consecutive_failures > 0 || self.slow_factor > 0).then_some(self)
    }
}
