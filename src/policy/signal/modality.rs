//! Owns the signal `modality`. Refuses to know how modalities are recognised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PlainFields, half};
use crate::BasisPoints;

/// Which kind of answer the prompt asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModalitySignal {
    /// The kinds of which it must be one.
    #[schemars(length(min = 1, max = 3))]
    pub any: Vec<Modality>,
    /// The least score.
    #[serde(default = "half")]
    pub min_score: BasisPoints,
}

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// Both.
    Both,
}

impl PlainFields for ModalitySignal {}
