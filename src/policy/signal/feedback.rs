//! Owns the signal `feedback`. Refuses to know how feedback is recognised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PlainFields, half};
use crate::BasisPoints;

/// How the user judges the answer before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSignal {
    /// The kinds of which one must be the prompt's.
    #[schemars(length(min = 1, max = 4))]
    pub any: Vec<Feedback>,
    /// The least score.
    #[serde(default = "half")]
    pub min_score: BasisPoints,
}

/// A user's judgement of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// It was good.
    Satisfied,
    /// It was not clear.
    NeedClarification,
    /// It was wrong.
    WrongAnswer,
    /// The user wants something else.
    WantDifferent,
}

impl PlainFields for FeedbackSignal {}
