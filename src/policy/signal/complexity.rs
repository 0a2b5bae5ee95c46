//! Owns the signal `complexity`. Refuses to know how texts are compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlainFields;
use crate::BasisPoints;

/// How hard a prompt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComplexitySignal {
    /// Examples of hard prompts.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 4096)))]
    pub hard: Vec<String>,
    /// Examples of easy prompts.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 4096)))]
    pub easy: Vec<String>,
    /// By how much the likeness to one side must exceed the other's.
    #[serde(default = "tenth")]
    pub margin: BasisPoints,
    /// The level that matches.
    #[serde(default)]
    pub level: Level,
}

fn tenth() -> BasisPoints {
    BasisPoints(1000)
}

/// How hard a prompt is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// More like the hard examples, by the margin.
    #[default]
    Hard,
    /// Neither.
    Medium,
    /// More like the easy examples, by the margin.
    Easy,
}

impl PlainFields for ComplexitySignal {}
