//! Owns the signal `fact_check`. Refuses to know how the need for facts is recognised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlainFields;
use crate::BasisPoints;

/// Whether an answer should be checked against facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FactCheckSignal {
    /// Whether the signal is that it should, or that it need not.
    pub needed: bool,
    /// The least score.
    pub min_score: BasisPoints,
}

impl Default for FactCheckSignal {
    fn default() -> Self {
        Self { needed: true, min_score: BasisPoints(5000) }
    }
}

impl PlainFields for FactCheckSignal {}
