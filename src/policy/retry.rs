//! Owns when a request is tried again. Refuses to know what failed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BasisPoints;
use super::checker::Checker;
use super::duration::DurationText;
use super::issue::YamlPath;

/// When a request is tried again on another endpoint; never after a byte of the answer was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often a request is tried in all; 1 means no retry.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// What is worth another try.
    #[schemars(length(max = 20), extend("x-formerly" = "on"))]
    pub causes: Vec<RetryCause>,
    /// How many retries there may be beside the requests of each pool.
    pub budget: RetryBudgetSpec,
    /// When a stream that gives nothing is asked for elsewhere, while it could still come; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Reissue")]
    pub reissue: Option<Reissue>,
}

/// When a stream that has given no byte yet is given up for another endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reissue {
    /// How long its first byte may take.
    #[serde(with = "DurationText")]
    pub after: Duration,
    /// The share of streams that may be, from 0 to 1.
    pub share: BasisPoints,
}

impl Default for Reissue {
    fn default() -> Self {
        Self { after: Duration::from_secs(2), share: BasisPoints(500) }
    }
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
    /// The request did not come in time.
    #[serde(rename = "408")]
    Status408,
    /// A conflict.
    #[serde(rename = "409")]
    Status409,
    /// Too early.
    #[serde(rename = "425")]
    Status425,
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
    /// Cloudflare's: an unknown error.
    #[serde(rename = "520")]
    Status520,
    /// Cloudflare's: the server is down.
    #[serde(rename = "521")]
    Status521,
    /// Cloudflare's: no connection in time.
    #[serde(rename = "522")]
    Status522,
    /// Cloudflare's: the server is unreachable.
    #[serde(rename = "523")]
    Status523,
    /// Cloudflare's: no answer in time.
    #[serde(rename = "524")]
    Status524,
    /// Anthropic's: overloaded. `503` covers it too.
    #[serde(rename = "529")]
    Status529,
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
        let causes = vec![Connect, Reset, Refused, Status429, Status502, Status503, Status504];
        Self { attempts: 3, causes, budget: RetryBudgetSpec::default(), reissue: None }
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
        self.causes.contains(&cause)
    }

    /// Whether an answer of this status is worth another try.
    pub fn covers_status(&self, status: u16) -> bool {
        let is_overloaded = status == 529 && self.covers(RetryCause::Status503);
        is_overloaded || RetryCause::of_status(status).is_some_and(|cause| self.covers(cause))
    }

    pub(super) fn check(&self, path: &YamlPath, checker: &mut Checker<'_>) {
        for (index, cause) in self.causes.iter().enumerate() {
            if self.causes[..index].contains(cause) {
                checker.issue(&path.key("causes").index(index), "stands twice");
            }
        }
    }
}

impl RetryCause {
    fn of_status(status: u16) -> Option<Self> {
        match status {
            408 => Some(Self::Status408),
            409 => Some(Self::Status409),
            425 => Some(Self::Status425),
            429 => Some(Self::Status429),
            500 => Some(Self::Status500),
            502 => Some(Self::Status502),
            503 => Some(Self::Status503),
            504 => Some(Self::Status504),
            520 => Some(Self::Status520),
            521 => Some(Self::Status521),
            522 => Some(Self::Status522),
            523 => Some(Self::Status523),
            524 => Some(Self::Status524),
            529 => Some(Self::Status529),
            _ => None,
        }
    }
}
