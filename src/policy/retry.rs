//! Owns when a request is tried again. Refuses to know what failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BasisPoints;
use super::checker::Checker;
use super::issue::YamlPath;

/// When a request is tried again on another endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often a request is tried in all, from 1.
    pub attempts: u32,
    /// Whether a failure to connect is worth another try.
    pub on_connect: bool,
    /// Whether a connection that breaks before the first byte is worth another try.
    pub on_reset: bool,
    /// The statuses that are worth another try.
    pub on_status: Vec<u16>,
    /// How many retries there may be beside the requests.
    pub budget: RetryBudgetSpec,
}

/// How many retries there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RetryBudget")]
pub struct RetryBudgetSpec {
    /// The share of requests that may be retries, from 0 to 1.
    pub share: BasisPoints,
    /// Retries per second that are always allowed.
    #[schemars(range(max = 1_000_000))]
    pub min_per_second: u32,
}

impl Default for RetryBudgetSpec {
    fn default() -> Self {
        Self { share: BasisPoints(2000), min_per_second: 10 }
    }
}

/// When a request is tried again on another endpoint; never after a byte of the answer was sent.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(super) struct RawRetry {
    /// How often a request is tried in all; 1 means no retry.
    #[schemars(range(min = 1, max = 10))]
    attempts: u32,
    /// What is worth another try.
    #[schemars(length(max = 16))]
    on: Vec<RawRetryCause>,
    /// How many retries there may be beside the requests.
    budget: RetryBudgetSpec,
}

impl Default for RawRetry {
    fn default() -> Self {
        use RawRetryCause::{Connect, Reset, Status429, Status502, Status503, Status504};
        Self {
            attempts: 3,
            on: vec![Connect, Reset, Status429, Status502, Status503, Status504],
            budget: RetryBudgetSpec::default(),
        }
    }
}

/// What is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RetryCause")]
enum RawRetryCause {
    /// No connection came about.
    Connect,
    /// The connection broke before the first byte of the answer.
    Reset,
    /// Too many requests.
    #[serde(rename = "429")]
    Status429,
    /// An internal error.
    #[serde(rename = "500")]
    Status500,
    /// A bad gateway.
    #[serde(rename = "502")]
    Status502,
    /// Unavailable.
    #[serde(rename = "503")]
    Status503,
    /// A gateway's timeout.
    #[serde(rename = "504")]
    Status504,
}

impl RawRetry {
    pub(super) fn check(self, path: &YamlPath, checker: &mut Checker<'_>) -> Retry {
        let mut retry = Retry {
            attempts: self.attempts,
            on_connect: false,
            on_reset: false,
            on_status: Vec::new(),
            budget: self.budget,
        };
        for (index, cause) in self.on.iter().enumerate() {
            if self.on[..index].contains(cause) {
                checker.issue(&path.key("on").index(index), "stands twice");
            }
            match cause {
                RawRetryCause::Connect => retry.on_connect = true,
                RawRetryCause::Reset => retry.on_reset = true,
                RawRetryCause::Status429 => retry.on_status.push(429),
                RawRetryCause::Status500 => retry.on_status.push(500),
                RawRetryCause::Status502 => retry.on_status.push(502),
                RawRetryCause::Status503 => retry.on_status.push(503),
                RawRetryCause::Status504 => retry.on_status.push(504),
            }
        }
        retry
    }
}
