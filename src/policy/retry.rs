//! Owns when a request is tried again. Refuses to know what failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BasisPoints;
use super::checker::Checker;
use super::issue::YamlPath;

/// When a request is tried again on another endpoint; never after a byte of the answer was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often a request is tried in all; 1 means no retry.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// What is worth another try.
    #[schemars(length(max = 16))]
    pub on: Vec<RetryCause>,
    /// How many retries there may be beside the requests.
    pub budget: RetryBudgetSpec,
}

/// What is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryCause {
    /// No connection came about, or the request was not taken over it.
    Connect,
    /// The connection broke, or the endpoint was taken out, before the first byte of the answer.
    Reset,
    /// An error that may be this endpoint's alone: 401, 403, 404 or 500. Another endpoint is asked, unless others have
    /// just refused the same, and where that answers, the first is left out for the model.
    Refused,
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

impl Default for Retry {
    fn default() -> Self {
        use RetryCause::{Connect, Refused, Reset, Status429, Status502, Status503, Status504};
        let on = vec![Connect, Reset, Refused, Status429, Status502, Status503, Status504];
        Self { attempts: 3, on, budget: RetryBudgetSpec::default() }
    }
}

impl Default for RetryBudgetSpec {
    fn default() -> Self {
        Self { share: BasisPoints(2000), min_per_second: 10 }
    }
}

impl Retry {
    /// Whether a failure is worth another try.
    pub fn covers(&self, cause: RetryCause) -> bool {
        self.on.contains(&cause)
    }

    /// Whether an answer of this status is worth another try.
    pub fn covers_status(&self, status: u16) -> bool {
        RetryCause::of_status(status).is_some_and(|cause| self.covers(cause))
    }

    pub(super) fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) {
        for (index, cause) in self.on.iter().enumerate() {
            if self.on[..index].contains(cause) {
                checker.issue(&path.key("on").index(index), "stands twice");
            }
        }
    }
}

impl RetryCause {
    fn of_status(status: u16) -> Option<Self> {
        match status {
            429 => Some(Self::Status429),
            500 => Some(Self::Status500),
            502 => Some(Self::Status502),
            // Anthropic's status for an overloaded service.
            503 | 529 => Some(Self::Status503),
            504 => Some(Self::Status504),
            _ => None,
        }
    }
}
