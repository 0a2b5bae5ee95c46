//! One request as its signals see it: what several of them need is found out once, and only if one needs it.

use std::cell::OnceCell;

use super::texts::SignalTexts;
use super::token_count::TokenCount;
use crate::classify::Classifier;
use crate::language::DetectedLanguage;
use crate::openai::{ChatRequest, MessageCounts};
use crate::policy::Principal;

/// What signals that need no classification are evaluated by.
pub(super) struct RequestView<'a> {
    pub(super) request: &'a ChatRequest,
    pub(super) principal: Option<&'a Principal>,
    pub(super) texts: &'a SignalTexts<'a>,
    /// Counts tokens.
    pub(super) classifier: &'a Classifier,
    token_count: OnceCell<TokenCount<'a>>,
    message_counts: OnceCell<MessageCounts>,
    /// Of the prompt; filled by the language signals.
    pub(super) language: OnceCell<Option<DetectedLanguage>>,
}

impl<'a> RequestView<'a> {
    pub(super) fn new(
        request: &'a ChatRequest,
        principal: Option<&'a Principal>,
        texts: &'a SignalTexts<'a>,
        classifier: &'a Classifier,
    ) -> Self {
        let (token_count, message_counts, language) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { request, principal, texts, classifier, token_count, message_counts, language }
    }

    pub(super) fn token_count(&self) -> &TokenCount<'a> {
        self.token_count.get_or_init(|| TokenCount::of(self.texts.all()))
    }

    pub(super) fn message_counts(&self) -> &MessageCounts {
        self.message_counts.get_or_init(|| self.request.message_counts())
    }
}
