//! Owns the guard of secrets in requests, which is one of personal data for their kinds alone. Refuses to know how they are
//! found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GuardOnUnknown, PiiAction, PiiGuard, TextSource, TextSources};
use crate::context::PolicyContext;
use crate::signal::{Scope, SecretKind, secret_kinds};

/// What happens to keys, tokens and passwords in requests.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SecretsGuard")]
pub(super) struct RawSecretsGuard {
    /// What is done.
    action: SecretsAction,
    /// The kinds that may stay.
    #[serde(default)]
    #[schemars(length(max = 5))]
    allow: Vec<SecretKind>,
    /// How far back messages are looked at: from the last user message on, or all.
    #[serde(default = "conversation")]
    scope: Scope,
    /// Where the texts come from that are looked at; from everywhere when absent.
    #[serde(default)]
    #[schemars(with = "Vec<TextSource>", length(min = 1, max = 16))]
    of: Option<Vec<TextSource>>,
    /// What happens when a text could not be searched. Default: `reject`, `allow` with `report`.
    #[serde(default)]
    #[schemars(with = "GuardOnUnknown")]
    on_unknown: Option<GuardOnUnknown>,
}

/// What is done with secrets in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SecretsAction {
    /// The request is refused.
    Block,
    /// Each is replaced by its kind and a keyed digest, and never put back into the answer.
    Mask,
    /// It is only counted and logged.
    Report,
    /// Nothing is looked at.
    Off,
}

fn conversation() -> Scope {
    Scope::Conversation
}

impl RawSecretsGuard {
    pub(super) fn check(self, context: &PolicyContext<'_>) -> PiiGuard {
        let action = match self.action {
            SecretsAction::Block => PiiAction::Block,
            SecretsAction::Mask => PiiAction::Mask { unmask: false },
            SecretsAction::Report => PiiAction::Report,
            SecretsAction::Off => PiiAction::Off,
        };
        let least_sure = if action.holds_up() { GuardOnUnknown::Reject } else { GuardOnUnknown::Allow };
        PiiGuard {
            action,
            kinds: secret_kinds(&self.allow),
            min_score: None,
            scope: self.scope,
            of: self.of.map_or(TextSources::ALL, |list| TextSources::of(&list)),
            key: context.placeholder_key.clone(),
            on_unknown: self.on_unknown.unwrap_or(least_sure),
            timeout: None,
        }
    }
}
