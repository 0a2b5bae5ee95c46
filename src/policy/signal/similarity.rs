//! Owns the signal `similarity`. Refuses to know how texts are compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlainFields;
use crate::BasisPoints;

/// Likeness to example phrases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimilaritySignal {
    /// The examples; their embeddings are computed once.
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 4096)))]
    pub to: Vec<String>,
    /// How the likenesses to several examples become one.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// The least cosine, from 0 to 1.
    pub min_score: BasisPoints,
    /// The model with which `min_score` was found, as `check` names it: each spreads cosines in its own way.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1024))]
    pub embedder: Option<String>,
}

/// How several likenesses become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The greatest counts.
    #[default]
    Max,
    /// Their mean counts.
    Mean,
    /// One that reaches `min_score` is enough.
    Any,
}

impl PlainFields for SimilaritySignal {}
