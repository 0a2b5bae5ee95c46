//! Owns the signal `identity`. Refuses to know how clients are verified.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SignalFields;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// Who sends the request; of each list that is not empty one entry must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySignal {
    /// The users.
    #[schemars(length(max = 10_000))]
    pub users: Vec<String>,
    /// The groups.
    #[schemars(length(max = 10_000))]
    pub groups: Vec<String>,
    /// The tenants.
    #[schemars(length(max = 10_000))]
    pub tenants: Vec<String>,
}

impl SignalFields for IdentitySignal {
    type Raw = Self;

    fn check(raw: Self::Raw, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        if raw.users.is_empty() && raw.groups.is_empty() && raw.tenants.is_empty() {
            checker.issue(path, "needs `users`, `groups` or `tenants`");
        }
        raw
    }
}
