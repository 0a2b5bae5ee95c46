//! Owns a pool's active health checks. Refuses to know their outcomes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// How endpoints are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// The path that is requested with GET, before any prefix of the pool.
    #[schemars(length(min = 1, max = 2048))]
    pub path: String,
    /// The time between two checks.
    #[serde(with = "DurationText")]
    pub interval: Duration,
    /// How long a check may take.
    #[serde(with = "DurationText")]
    pub timeout: Duration,
    /// How many good checks bring an endpoint back.
    #[schemars(range(min = 1, max = 100))]
    pub healthy_after: u32,
    /// How many bad checks take an endpoint out.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_after: u32,
    /// The statuses of a good check.
    #[schemars(length(min = 1, max = 32), inner(range(min = 100, max = 599)))]
    pub status: Vec<u16>,
}

impl Health {
    /// The path that is requested where the policy names none.
    pub const DEFAULT_PATH: &str = "/health";
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: Self::DEFAULT_PATH.to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_after: 1,
            unhealthy_after: 2,
            status: vec![200],
        }
    }
}

/// Active health checks.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Health")]
pub(crate) struct RawHealth {
    /// Whether endpoints are checked; when absent, only those of pools without `tls` are.
    pub(crate) enabled: Option<bool>,
    #[serde(flatten)]
    pub(crate) health: Health,
}

impl RawHealth {
    pub(super) fn check(self, uses_tls: bool, path: &YamlPath, checker: &mut Checker<'_>) -> Option<Health> {
        let target = &self.health.path;
        if !target.starts_with('/') || !target.chars().all(|c| c.is_ascii_graphic()) {
            checker.issue(&path.key("path"), "must start with `/` and have no white space");
        }
        self.enabled.unwrap_or(!uses_tls).then_some(self.health)
    }
}
