//! Owns the signal `domain`. Refuses to know how texts are classified.

use schemars::JsonSchema;
use serde::Deserialize;

use super::SignalFields;
use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;

/// What the prompt is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainSignal {
    /// The domains of which one must be the prompt's.
    pub any: Vec<String>,
    /// The least confidence.
    pub min_score: BasisPoints,
}

/// What the prompt is about.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DomainSignal")]
pub(super) struct RawDomainSignal {
    /// The domains of which one must be the prompt's.
    #[schemars(length(min = 1, max = 1000))]
    any: Vec<String>,
    /// The least confidence; the classifier's `min_confidence` when absent.
    #[serde(default)]
    min_score: Option<BasisPoints>,
}

impl SignalFields for DomainSignal {
    type Raw = RawDomainSignal;

    fn check(
        raw: Self::Raw,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Self {
        context.check_domains(&raw.any, &path.key("any"), checker);
        Self { any: raw.any, min_score: raw.min_score.unwrap_or(context.min_confidence) }
    }
}
