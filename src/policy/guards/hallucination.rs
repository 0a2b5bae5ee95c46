//! Owns how claims that nothing supports are reported. Refuses to know how they are found.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::duration::DurationText;
use crate::issue::YamlPath;

/// How an answer is reported that the model's own sources, results of tools and documents, don't support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HallucinationGuard {
    /// What is done; needs a detector, `classifier.models.hallucination`.
    pub action: HallucinationAction,
    /// For `header`: whether it also names the unsupported parts of the answer.
    pub spans: bool,
    /// Whether headers say where a `fact_check` signal wants facts and there is nothing to check the answer against.
    pub unverified: bool,
    /// How long a whole answer may be judged.
    #[serde(with = "DurationText")]
    pub deadline: Duration,
}

impl Default for HallucinationGuard {
    fn default() -> Self {
        Self {
            action: HallucinationAction::Off,
            spans: false,
            unverified: false,
            deadline: Duration::from_secs(5),
        }
    }
}

impl HallucinationGuard {
    /// Whether anything is reported.
    pub fn is_on(&self) -> bool {
        self.action != HallucinationAction::Off || self.unverified
    }

    pub(super) fn check(&self, path: &YamlPath, context: &PolicyContext<'_>, checker: &mut Checker<'_>) {
        if self.action != HallucinationAction::Off && !context.has_detector {
            let message = "no detector is configured; `classifier.models.hallucination` names one";
            checker.issue(&path.key("action"), message);
        }
        if self.spans && self.action != HallucinationAction::Header {
            checker.issue(&path.key("spans"), "only with `action: header`");
        }
        if self.unverified && !context.checks_facts {
            let message = "no signal tells where facts are needed; `fact_check: {needed: true}` does";
            checker.issue(&path.key("unverified"), message);
        }
    }
}

/// What is done with an answer that nothing supports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HallucinationAction {
    /// No answer is looked at.
    #[default]
    Off,
    /// It is counted and logged, once it has gone out.
    Log,
    /// The client is informed in headers too, for which whole answers are held back until they are judged; streams are
    /// not held back, and only counted and logged.
    Header,
}
