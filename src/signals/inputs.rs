//! What signals, guards and plugins need of a request: which texts are read, and what the classifier is asked of them.

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
    /// Whether a guard decides by what the classifier finds, so that the request waits for it.
    pub(super) is_guarded: bool,
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
        is_guarded: false,
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

    /// The same for a guard; `holds_up` says whether what becomes of the request depends on it.
    pub(super) fn for_guard(self, holds_up: bool) -> Self {
        Self { is_guarded: holds_up, ..self }
    }

    /// Needs what either needs.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.or(other.prompt),
            others: self.others.or(other.others),
            all_texts: self.all_texts || other.all_texts,
            lookback: self.lookback.max(other.lookback),
            is_guarded: self.is_guarded || other.is_guarded,
            judged: self.judged.or(other.judged),
        }
    }
}
