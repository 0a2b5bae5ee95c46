//! Owns when an endpoint of a pool is left out, how much it may have to do, and when another is asked beside it. Refuses to
//! know how much it has.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BasisPoints;
use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;

use super::balance::Ejection;
use super::hedge::{Hedge, HedgeContext};

/// When an endpoint of a pool is left out, has enough to do, or is not waited for alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolLimits {
    /// When a failing endpoint is left out, if ever.
    pub ejection: Option<Ejection>,
    /// The most requests that one endpoint has at a time.
    pub max_in_flight: Option<u32>,
    /// From when on an endpoint is saturated; none where nothing waits for that.
    pub saturation: Option<Saturation>,
    /// How long an engine that sleeps may take to wake; none where none is woken.
    pub wake: Option<Duration>,
    /// When a second endpoint is asked beside one that owes its first byte; never where absent.
    pub hedge: Option<Hedge>,
}

impl From<Option<Ejection>> for PoolLimits {
    fn from(ejection: Option<Ejection>) -> Self {
        Self { ejection, ..Self::default() }
    }
}

/// From when on an endpoint is saturated, as the Gateway API inference extension has it: the greater of two shares, and a
/// pool's is the mean of its endpoints'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Saturation {
    /// Requests in its engine's queue.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue: u32,
    /// The share of its engine's KV cache in use, from 0 to 1.
    pub kv_usage: BasisPoints,
}

impl Default for Saturation {
    fn default() -> Self {
        Self { queue: 5, kv_usage: BasisPoints(8000) }
    }
}

/// How engines are woken that sleep: vLLM's `/wake_up`, which its development mode has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Wake")]
struct RawWake {
    /// How long an engine may take to wake; another endpoint is asked after that.
    #[serde(with = "DurationText")]
    timeout: Duration,
}

impl Default for RawWake {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60) }
    }
}

/// When an endpoint is left out, or has enough to do.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct RawPoolLimits {
    /// When an endpoint that keeps failing is left out.
    #[serde(default)]
    ejection: Ejection,
    /// The most requests that one endpoint has at a time; others go elsewhere, wait where there is `admission`, and are
    /// answered with 503 where all have so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    max_in_flight: Option<u32>,
    /// From when on an endpoint is saturated; for policies with `admission`.
    #[serde(default)]
    saturation: Saturation,
    /// How an engine that sleeps is woken, where a request comes and all that could have it sleep; when absent, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawWake")]
    wake: Option<RawWake>,
    /// When a second endpoint is asked beside one that owes its first byte; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hedge")]
    hedge: Option<Hedge>,
}

impl RawPoolLimits {
    pub(super) fn check(
        self,
        pool: HedgeContext<'_>,
        path: &YamlPath,
        checker: &mut Checker<'_>,
    ) -> PoolLimits {
        if self.saturation.kv_usage.0 == 0 {
            checker.issue(&path.key("saturation").key("kv_usage"), "must be more than 0");
        }
        PoolLimits {
            ejection: self.ejection.check(&path.key("ejection"), checker),
            max_in_flight: self.max_in_flight,
            saturation: Some(self.saturation),
            wake: self.wake.map(|wake| wake.timeout),
            hedge: self.hedge.map(|hedge| hedge.check(pool, &path.key("hedge"), checker)),
        }
    }
}
