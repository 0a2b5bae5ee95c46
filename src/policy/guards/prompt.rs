//! Owns the guard against prompts that attack the model. Refuses to know how attacks are recognised.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GuardOnUnknown, TextSource, TextSources};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::signal::Scope;
use crate::{BasisPoints, ModelId};

/// What happens to prompts that attack the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptGuard {
    /// What is done.
    pub action: PromptAction,
    /// The least probability; the classifier's threshold where there is none.
    pub min_score: Option<BasisPoints>,
    /// How far back messages are looked at.
    pub scope: Scope,
    /// Which texts are looked at.
    pub of: TextSources,
    /// What happens when there is no answer.
    pub on_unknown: GuardOnUnknown,
    /// How long a request waits for what this asks; the classifier's `guard_timeout` where it says nothing.
    pub timeout: Option<Duration>,
}

/// What is done with a prompt that attacks the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptAction {
    /// It is refused.
    Block,
    /// It goes to this model.
    Route(ModelId),
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

impl PromptAction {
    /// Whether a request waits for what is found, since that decides what becomes of it.
    pub fn holds_up(self) -> bool {
        matches!(self, Self::Block | Self::Route(_))
    }
}

/// What happens to prompts that attack the model.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PromptGuard")]
pub(super) struct RawPromptGuard {
    /// What is done.
    action: RawPromptAction,
    /// For `route`: the model that gets them.
    #[serde(default)]
    model: Option<String>,
    /// The least probability; the classifier's threshold when absent.
    #[serde(default)]
    min_score: Option<BasisPoints>,
    /// How far back messages are looked at: from the last user message on, or all; texts beside the messages are in
    /// either case.
    #[serde(default)]
    scope: Scope,
    /// Where the texts come from that are looked at; when absent from everywhere but the operator's own: system prompts,
    /// tools and metadata.
    #[serde(default)]
    #[schemars(with = "Vec<TextSource>", length(min = 1, max = 16))]
    of: Option<Vec<TextSource>>,
    /// What happens when there is no answer. Default: `reject`, `allow` with `report`.
    #[serde(default)]
    #[schemars(with = "GuardOnUnknown")]
    on_unknown: Option<GuardOnUnknown>,
    /// How long a request waits for what this guard asks, at least `classifier.deadline`; a request that several guards
    /// judge waits for the longest. Default: `classifier.guard_timeout`.
    #[serde(default)]
    #[schemars(with = "DurationText")]
    timeout: Option<DurationText>,
}

/// What is done with a prompt that attacks the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PromptAction")]
enum RawPromptAction {
    /// It is refused.
    Block,
    /// It goes to another model.
    Route,
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

impl RawPromptGuard {
    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> PromptGuard {
        if self.model.is_some() && self.action != RawPromptAction::Route {
            checker.issue(&path.key("model"), "only with `action: route`");
        }
        let action = match self.action {
            RawPromptAction::Block => PromptAction::Block,
            RawPromptAction::Report => PromptAction::Report,
            RawPromptAction::Off => PromptAction::Off,
            RawPromptAction::Route => {
                if self.model.is_none() {
                    checker.issue(path, "the key `model` is missing: `route` needs one");
                }
                let model = self.model.and_then(|name| context.model(&name, &path.key("model"), checker));
                model.map_or(PromptAction::Block, PromptAction::Route)
            }
        };
        let on_unknown = self.on_unknown.unwrap_or(if action.holds_up() {
            GuardOnUnknown::Reject
        } else {
            GuardOnUnknown::Allow
        });
        let own = TextSources::of(&[TextSource::System, TextSource::Tools, TextSource::Metadata]);
        PromptGuard {
            action,
            min_score: self.min_score,
            scope: self.scope,
            of: self.of.map_or(TextSources::ALL.without(own), |list| TextSources::of(&list)),
            on_unknown,
            timeout: self.timeout.map(|timeout| timeout.0),
        }
    }
}
