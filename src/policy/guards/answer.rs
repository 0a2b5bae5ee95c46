//! Owns the guard of answers. Refuses to know how a stream is held to it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hallucination::HallucinationGuard;
use super::{GuardOnUnknown, Words};
use crate::checker::Checker;
use crate::context::PolicyContext;
use crate::duration::DurationText;
use crate::issue::YamlPath;
use crate::signal::PiiKinds;

/// What happens to answers, as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerGuard {
    /// What is done with personal data.
    pub pii: AnswerAction,
    /// The kinds that matter.
    pub kinds: PiiKinds,
    /// Whether the answer ends before text that reads like an attack.
    pub cuts_jailbreak: bool,
    /// Words and phrases that must not occur.
    pub words: Words,
    /// What is done where one of them occurs.
    pub on_words: AnswerAction,
    /// What happens to text that could not be judged: it passes, or the answer ends before it.
    pub on_unknown: GuardOnUnknown,
    /// How long the judgement of a sentence may take; the classifier's `guard_timeout` where it says nothing.
    pub timeout: Option<Duration>,
    /// How claims are reported that the model's sources don't support.
    pub hallucination: HallucinationGuard,
    /// SHA-256 of all that the operator wrote about it: what was judged by another has to be judged again.
    pub digest: [u8; 32],
}

impl AnswerGuard {
    /// Whether anything is looked at.
    pub fn is_on(&self) -> bool {
        self.watches() || self.hallucination.is_on()
    }

    /// Whether anything is looked at on the way, so that the answer may change.
    pub fn watches(&self) -> bool {
        self.pii != AnswerAction::Off || self.cuts_jailbreak || !self.words.is_empty()
    }
}

/// What is done with a part of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerAction {
    /// Nothing.
    #[default]
    Off,
    /// It is masked.
    Mask,
    /// The answer ends before it, with the reason `content_filter`.
    Cut,
}

/// What happens to answers, as they come.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AnswerGuard")]
pub(super) struct RawAnswerGuard {
    /// What is done with personal data.
    pii: AnswerAction,
    /// The kinds of personal data that may stay.
    #[schemars(length(max = 100))]
    allow: Vec<String>,
    /// What is done with text that reads like an attack; only `cut` and `off`.
    jailbreak: AnswerAction,
    /// Words and phrases that must not occur.
    #[schemars(length(max = 10_000), inner(length(min = 1, max = 256)))]
    words: Vec<String>,
    /// What is done where one of `words` occurs.
    #[schemars(with = "AnswerAction")]
    on_words: Option<AnswerAction>,
    /// What happens to what could not be judged: it passes, or the answer ends before it, or an error takes its place.
    /// Default: `reject` where anything is looked for.
    #[schemars(with = "GuardOnUnknown")]
    on_unknown: Option<GuardOnUnknown>,
    /// How long the judgement of a sentence may take. Default: `classifier.guard_timeout`.
    #[schemars(with = "DurationText")]
    timeout: Option<DurationText>,
    /// How claims are reported that the model's sources don't support.
    hallucination: HallucinationGuard,
}

impl RawAnswerGuard {
    pub(super) fn check(
        self,
        path: &YamlPath,
        context: &PolicyContext<'_>,
        checker: &mut Checker<'_>,
    ) -> AnswerGuard {
        let written = serde_json::to_vec(&self).unwrap_or_default();
        let digest = ring::digest::digest(&ring::digest::SHA256, &written);
        context.check_pii(&self.allow, &path.key("allow"), checker);
        if self.jailbreak == AnswerAction::Mask {
            checker
                .issue(&path.key("jailbreak"), "`cut` or `off`: an attack is no piece that could be masked");
        }
        if self.on_words.is_some() && self.words.is_empty() {
            checker.issue(&path.key("on_words"), "only with `words`");
        }
        if let Some(blank) = self.words.iter().position(|word| word.trim().is_empty()) {
            checker.issue(&path.key("words").index(blank), "must not be blank");
        }
        self.hallucination.check(&path.key("hallucination"), context, checker);
        let must_judge =
            self.pii != AnswerAction::Off || self.jailbreak != AnswerAction::Off || !self.words.is_empty();
        let on_unknown = if must_judge { GuardOnUnknown::Reject } else { GuardOnUnknown::Allow };
        AnswerGuard {
            pii: self.pii,
            kinds: PiiKinds { only: Vec::new(), except: self.allow },
            cuts_jailbreak: self.jailbreak == AnswerAction::Cut,
            words: Words::new(&self.words).unwrap_or_else(|_too_large| {
                checker.issue(&path.key("words"), "are too many, or too long, to be looked for together");
                Words::default()
            }),
            on_words: self.on_words.unwrap_or(AnswerAction::Cut),
            on_unknown: self.on_unknown.unwrap_or(on_unknown),
            timeout: self.timeout.map(|timeout| timeout.0),
            hallucination: self.hallucination,
            digest: digest.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }
    }
}
