//! Owns the signal `reask`. Refuses to know how texts are compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlainFields;
use crate::BasisPoints;

/// The user repeats an earlier question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReaskSignal {
    /// The least cosine between the prompt and an earlier message of the user.
    pub min_score: BasisPoints,
    /// How many earlier messages of the user are looked at.
    #[schemars(range(min = 1, max = 16))]
    pub lookback: u8,
}

impl Default for ReaskSignal {
    fn default() -> Self {
        Self { min_score: BasisPoints(8000), lookback: 3 }
    }
}

impl PlainFields for ReaskSignal {}
