//! Owns how a pool's requests are spread over its endpoints, and when a failing endpoint is left out. Refuses to know
//! which endpoints are up: `balance` does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::BasisPoints;
use crate::policy::checker::Checker;
use crate::policy::duration::DurationText;
use crate::policy::issue::YamlPath;
use crate::policy::schema::exactly_one_key;

/// Which endpoint takes the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequest,
    /// The same endpoint for the same session.
    Hash(HashKey),
}

/// Which endpoint takes the next request.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Balance")]
pub(in crate::policy) struct RawBalance {
    /// The way of choosing.
    strategy: RawBalanceStrategy,
    /// What requests of one session have in common; for `hash` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HashKey")]
    hash_on: Option<HashKey>,
}

/// A way of choosing an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BalanceStrategy")]
enum RawBalanceStrategy {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two taken at random.
    #[default]
    LeastRequest,
    /// The same endpoint for the same session.
    Hash,
}

impl RawBalance {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Balance {
        match (self.strategy, self.hash_on) {
            (RawBalanceStrategy::Hash, Some(mut key)) => {
                key.check(&path.key("hash_on"), checker);
                return Balance::Hash(key);
            }
            (RawBalanceStrategy::RoundRobin, None) => return Balance::RoundRobin,
            (RawBalanceStrategy::LeastRequest, None) => {}
            (RawBalanceStrategy::Hash, None) => checker.issue(path, "the strategy `hash` needs `hash_on`"),
            (_, Some(_)) => checker.issue(&path.key("hash_on"), "is for the strategy `hash` alone"),
        }
        Balance::LeastRequest
    }
}

/// What requests of one session have in common: exactly one of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(
    rename = "HashOn",
    transform = exactly_one_key,
    extend("x-expected" = "`{header: NAME}` or `{field: NAME}`")
)]
pub enum HashKey {
    /// A request header.
    Header(String),
    /// A string at the top level of the request's JSON body.
    Field(String),
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
            Self::Field(field) if field.is_empty() => {
                checker.issue(&path.key("field"), "must not be empty");
            }
            Self::Field(_) => {}
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
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            max_share: BasisPoints(5000),
        }
    }
}

impl Ejection {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Option<Self> {
        if self.max < self.base {
            checker.issue(&path.key("max"), "is shorter than `base`");
        }
        (self.consecutive_failures > 0).then_some(self)
    }
}
