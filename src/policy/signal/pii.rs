//! Owns the signal `pii`. Refuses to know how personal data is found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, SignalFields};
use crate::BasisPoints;
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::issue::YamlPath;
use crate::pii_kinds::is_checked;

/// Personal data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct PiiSignal {
    /// Which kinds count.
    #[serde(flatten)]
    pub kinds: PiiKinds,
    /// The least probability; the classifier's threshold when absent.
    pub min_score: Option<BasisPoints>,
    /// Which texts are looked at.
    pub scope: Scope,
}

/// Which kinds of personal data count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PiiKinds {
    /// The kinds that count, such as `EMAIL_ADDRESS`; all when empty.
    #[schemars(length(max = 100))]
    pub only: Vec<String>,
    /// The kinds that do not count.
    #[schemars(length(max = 100))]
    pub except: Vec<String>,
}

impl PiiKinds {
    /// Says whether a kind counts.
    pub fn holds(&self, kind: &str) -> bool {
        let is = |other: &String| other == kind;
        (self.only.is_empty() || self.only.iter().any(is)) && !self.except.iter().any(is)
    }

    /// Says whether patterns find all that counts, whatever the model's labels.
    pub fn are_checked(&self) -> bool {
        !self.only.is_empty() && self.only.iter().all(|kind| is_checked(kind) || !self.holds(kind))
    }
}

impl SignalFields for PiiSignal {
    type Raw = Self;

    fn check(
        raw: Self::Raw,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Self {
        context.check_pii(&raw.kinds.only, &path.key("only"), checker);
        context.check_pii(&raw.kinds.except, &path.key("except"), checker);
        raw
    }
}
