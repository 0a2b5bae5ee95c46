//! Owns when a request of a pool is sent to a second endpoint while the first still owes its first byte. Refuses to know
//! which endpoint that is.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::size::sized;

use super::balance::Balance;
use super::prefill::PoolRole;
use super::transport::Transport;

/// When a request is sent to a second endpoint beside the first, which still owes its first byte: whichever gives it first
/// answers, and the other's connection is closed. Only over plain HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// How long the first byte may take before that, at least.
    #[serde(with = "DurationText")]
    pub after: Duration,
    /// How long it may take besides: as long as for this share of the pool's requests of the last two minutes, of which
    /// a hundred have to be known. When absent, `after` alone counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BasisPoints")]
    pub percentile: Option<BasisPoints>,
    /// The share of requests of the last ten seconds that may be sent twice, from 0 to 1.
    pub share: BasisPoints,
    /// The most that are under way twice at a time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub at_most: u32,
    /// The longest body of a request that is.
    #[schemars(range(min = 1, max = 1_073_741_824_u64), transform = sized)]
    pub max_body_bytes: usize,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(1),
            percentile: None,
            share: BasisPoints(500),
            at_most: 32,
            max_body_bytes: 1 << 20,
        }
    }
}

/// What a pool has beside its hedging.
#[derive(Clone, Copy)]
pub(super) struct HedgeContext<'a> {
    pub(super) transport: &'a Transport,
    pub(super) balance: &'a Balance,
    pub(super) role: PoolRole,
}

impl Hedge {
    pub(super) fn check(self, pool: HedgeContext<'_>, path: &YamlPath, checker: &mut Checker<'_>) -> Self {
        if pool.transport != &(Transport::Plain { h2c: None })
            && pool.transport != &(Transport::Plain { h2c: Some(false) })
        {
            checker.issue(path, "is for plain HTTP/1.1: not with `tls`, nor with `protocol: h2c`");
        }
        if matches!(pool.balance, Balance::External(_)) {
            checker
                .issue(path, "is not for the strategy `external`: its picker would have to be asked again");
        }
        if pool.role != PoolRole::Whole {
            checker.issue(path, "is not for pools with `prefill`, nor for those that it names");
        }
        if self.percentile == Some(BasisPoints(0)) {
            checker.issue(&path.key("percentile"), "must be more than 0");
        }
        if self.share.0 == 0 {
            checker.issue(&path.key("share"), "must be more than 0; without `hedge` nothing is sent twice");
        }
        self
    }
}
