//! Owns what requests and answers are checked for: attacks, personal data, words, unsupported claims. Refuses to know how
//! those are found.

mod answer;
mod hallucination;
mod pii;
mod prompt;
mod secrets;
mod sources;
mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::context::PolicyContext;
use super::issue::YamlPath;
use answer::RawAnswerGuard;
pub use answer::{AnswerAction, AnswerGuard};
pub use hallucination::{HallucinationAction, HallucinationGuard};
use pii::RawPiiGuard;
pub use pii::{PiiAction, PiiGuard};
use prompt::RawPromptGuard;
pub use prompt::{PromptAction, PromptGuard};
use secrets::RawSecretsGuard;
pub use sources::{TextSource, TextSources};
pub use words::Words;

/// What requests and answers are checked for; a guard that is `None` is left to the next in order: a decision's guards
/// come before its model's, those before the policy's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guards {
    /// What happens to prompts that attack the model.
    pub prompt: Option<PromptGuard>,
    /// What happens to personal data in requests.
    pub pii: Option<PiiGuard>,
    /// What happens to keys, tokens and passwords in requests; where there is none, the guard of personal data has them too.
    pub secrets: Option<PiiGuard>,
    /// What happens to answers.
    pub answer: Option<AnswerGuard>,
}

impl Guards {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What every request, or every request for a model, is checked for.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Guards")]
pub(super) struct RawGuards {
    /// What happens to prompts that attack the model.
    #[schemars(with = "RawPromptGuard")]
    prompt: Option<RawPromptGuard>,
    /// What happens to personal data in requests.
    #[schemars(with = "RawPiiGuard")]
    pii: Option<RawPiiGuard>,
    /// What happens to keys, tokens and passwords in requests; without this they are personal data.
    #[schemars(with = "RawSecretsGuard")]
    secrets: Option<RawSecretsGuard>,
    /// What happens to answers, as they come.
    #[schemars(with = "RawAnswerGuard")]
    answer: Option<RawAnswerGuard>,
}

impl RawGuards {
    /// Whether there is any.
    pub(super) fn is_some(&self) -> bool {
        self.prompt.is_some() || self.pii.is_some() || self.secrets.is_some() || self.answer.is_some()
    }

    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> Guards {
        Guards {
            prompt: self.prompt.map(|raw| raw.check(&path.key("prompt"), context, checker)),
            pii: self.pii.map(|raw| raw.check(&path.key("pii"), context, checker)),
            secrets: self.secrets.map(|raw| raw.check(context)),
            answer: self.answer.map(|raw| raw.check(&path.key("answer"), context, checker)),
        }
    }
}

/// What happens when a guard has no answer: its texts could not be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardOnUnknown {
    /// The request goes on, which is counted, logged and told in `x-vsr-guard-unjudged`.
    Allow,
    /// The request is refused with 503.
    Reject,
}
