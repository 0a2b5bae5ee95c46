//! Owns the signal `context`. Refuses to know how tokens are counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CountRange, SignalFields};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// How many tokens the texts of the request have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSignal {
    /// The least number of tokens.
    pub min: u64,
    /// The greatest number of tokens.
    pub max: u64,
}

/// How many tokens the texts of the request have, by the classifier's tokenizer.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ContextSignal")]
pub(super) struct RawContextSignal {
    /// At least so many.
    min_tokens: Option<u64>,
    /// At most so many.
    max_tokens: Option<u64>,
}

impl SignalFields for ContextSignal {
    type Raw = RawContextSignal;

    fn check(raw: Self::Raw, path: &YamlPath, _: &PolicyContext<'_>, checker: &mut Checker<'_>) -> Self {
        if raw.min_tokens.is_none() && raw.max_tokens.is_none() {
            checker.issue(path, "needs `min_tokens`, `max_tokens` or both");
        }
        let CountRange { min, max } = CountRange::check(raw.min_tokens, raw.max_tokens, 0, path, checker);
        Self { min, max }
    }
}
