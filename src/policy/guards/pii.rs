//! Owns the guard of personal data in requests. Refuses to know how it is found.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GuardOnUnknown, TextSource, TextSources};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::signal::{PiiKinds, Scope};
use crate::{BasisPoints, PlaceholderKey};

/// What happens to personal data in requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PiiGuard {
    /// What is done.
    pub action: PiiAction,
    /// The kinds that matter.
    pub kinds: PiiKinds,
    /// The least probability; the classifier's threshold where there is none.
    pub min_score: Option<BasisPoints>,
    /// How far back messages are looked at.
    pub scope: Scope,
    /// Which texts are looked at.
    pub of: TextSources,
    /// The key of the placeholders for what is masked.
    pub key: PlaceholderKey,
    /// What happens when there is no answer.
    pub on_unknown: GuardOnUnknown,
    /// How long a request waits for what this asks; the classifier's `guard_timeout` where it says nothing.
    pub timeout: Option<Duration>,
}

/// What is done with personal data in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PiiAction {
    /// The request is refused.
    Block,
    /// Each piece is replaced by its kind and a keyed digest.
    Mask {
        /// Whether the answer gets the masked texts back.
        unmask: bool,
    },
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

impl PiiAction {
    /// Whether a request waits for what is found, since that decides what becomes of it.
    pub fn holds_up(self) -> bool {
        matches!(self, Self::Block | Self::Mask { .. })
    }
}

/// What happens to personal data in requests.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PiiGuard")]
pub(super) struct RawPiiGuard {
    /// What is done.
    action: RawPiiAction,
    /// The kinds that may stay, such as `PERSON`.
    #[serde(default)]
    #[schemars(length(max = 100))]
    allow: Vec<String>,
    /// The least probability; the classifier's threshold when absent.
    #[serde(default)]
    min_score: Option<BasisPoints>,
    /// How far back messages are looked at: from the last user message on, or all; texts beside the messages are in
    /// either case. Masking has to be of all, since every turn sends the ones before it again.
    #[serde(default)]
    #[schemars(with = "Scope")]
    scope: Option<Scope>,
    /// Where the texts come from that are looked at; from everywhere when absent.
    #[serde(default)]
    #[schemars(with = "Vec<TextSource>", length(min = 1, max = 16))]
    of: Option<Vec<TextSource>>,
    /// For `mask`: whether the answer gets the masked texts back.
    #[serde(default)]
    unmask: bool,
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

/// What is done with personal data in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PiiAction")]
enum RawPiiAction {
    /// The request is refused.
    Block,
    /// Each piece is replaced by its kind and a keyed digest, such as `[PERSON_k3f9q2xa]`, in what goes upstream.
    Mask,
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

impl RawPiiGuard {
    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> PiiGuard {
        context.check_pii(&self.allow, &path.key("allow"), checker);
        if self.unmask && self.action != RawPiiAction::Mask {
            checker.issue(&path.key("unmask"), "only with `action: mask`");
        }
        let action = match self.action {
            RawPiiAction::Block => PiiAction::Block,
            RawPiiAction::Mask => PiiAction::Mask { unmask: self.unmask },
            RawPiiAction::Report => PiiAction::Report,
            RawPiiAction::Off => PiiAction::Off,
        };
        PiiGuard {
            action,
            kinds: PiiKinds { only: Vec::new(), except: self.allow },
            min_score: self.min_score,
            scope: self.scope.unwrap_or(match self.action {
                RawPiiAction::Mask => Scope::Conversation,
                RawPiiAction::Block | RawPiiAction::Report | RawPiiAction::Off => Scope::Prompt,
            }),
            of: self.of.map_or(TextSources::ALL, |list| TextSources::of(&list)),
            key: context.placeholder_key.clone(),
            on_unknown: self.on_unknown.unwrap_or(if action.holds_up() {
                GuardOnUnknown::Reject
            } else {
                GuardOnUnknown::Allow
            }),
            timeout: self.timeout.map(|timeout| timeout.0),
        }
    }
}
