//! What signals, guards and plugins need of a request: which texts are read, and what the classifier is asked of them.

use std::time::Duration;

use super::judged::GuardInputs;
use crate::classify::ClassifyHeads;
use crate::policy::Scope;

/// What must be read of a request, and asked of the classifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SignalInputs {
    /// What is asked of the prompt.
    pub(super) prompt: ClassifyHeads,
    /// What is asked of every other text.
    pub(super) others: ClassifyHeads,
    /// Whether other texts than the prompt are read.
    pub(super) all_texts: bool,
    /// How many earlier messages of the user need an embedding.
    pub(super) lookback: u8,
    /// How long the request waits for the classifier where a guard decides by what that finds.
    pub(super) guard_timeout: Option<Duration>,
    /// What guards need judged.
    pub(super) judged: GuardInputs,
}

impl SignalInputs {
    /// The request's own data alone.
    pub(super) const NONE: Self = Self {
        prompt: ClassifyHeads::NONE,
        others: ClassifyHeads::NONE,
        all_texts: false,
        lookback: 0,
        guard_timeout: None,
        judged: GuardInputs::NONE,
    };

    /// The prompt's embedding.
    pub(super) const EMBEDDING: Self =
        Self { prompt: ClassifyHeads { embedding: true, ..ClassifyHeads::NONE }, ..Self::NONE };

    /// What the classifier finds in the texts of a scope.
    pub(super) fn asked(questions: ClassifyHeads, scope: Scope) -> Self {
        let of_all = scope == Scope::Conversation;
        Self {
            prompt: questions,
            others: if of_all { questions } else { ClassifyHeads::NONE },
            all_texts: of_all && !questions.is_empty(),
            ..Self::NONE
        }
    }

    /// The wait of a guard on which it depends what becomes of the request.
    pub(super) fn awaited(timeout: Duration) -> Self {
        Self { guard_timeout: Some(timeout), ..Self::NONE }
    }

    /// Needs what either needs.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.or(other.prompt),
            others: self.others.or(other.others),
            all_texts: self.all_texts || other.all_texts,
            lookback: self.lookback.max(other.lookback),
            guard_timeout: self.guard_timeout.max(other.guard_timeout),
            judged: self.judged.or(other.judged),
        }
    }
}
