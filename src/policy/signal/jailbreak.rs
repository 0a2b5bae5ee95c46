//! Owns the signal `jailbreak`. Refuses to know how attacks are recognised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PlainFields, Scope};
use crate::BasisPoints;

/// An attack on the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JailbreakSignal {
    /// The least probability; the classifier's threshold when absent.
    pub min_score: Option<BasisPoints>,
    /// Which texts are looked at.
    pub scope: Scope,
}

impl PlainFields for JailbreakSignal {}
