//! Owns the signal `language`. Refuses to know how languages are recognised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SignalFields;
use crate::policy::BasisPoints;
use crate::policy::checker::Checker;
use crate::policy::context::PolicyContext;
use crate::policy::issue::YamlPath;

/// The language of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LanguageSignal {
    /// The languages of which one must be the prompt's, by ISO 639-1 such as `en`, or 639-3 where that has none.
    #[schemars(length(min = 1, max = 100), inner(length(min = 2, max = 3)))]
    pub any: Vec<String>,
    /// The least confidence.
    #[serde(default = "three_tenths")]
    pub min_score: BasisPoints,
}

fn three_tenths() -> BasisPoints {
    BasisPoints(3000)
}

impl SignalFields for LanguageSignal {
    type Raw = Self;

    fn check(mut raw: Self, _: &YamlPath, _: &PolicyContext<'_>, _: &mut Checker<'_>) -> Self {
        raw.any.iter_mut().for_each(|code| *code = code.to_lowercase());
        raw
    }
}
