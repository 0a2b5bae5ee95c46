//! Judges the texts of an answer: words that are not allowed, personal data, text that reads like an attack.

use super::finding::TextFinding;
use crate::classify::{
    Classifier, ClassifyHeads, ClassifyLimits, EntitySource, Findings, FoldedText, PiiFindings, Priority,
    Unknown,
};
use crate::policy::{AnswerAction, AnswerGuard, GuardOnUnknown};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What must not go out, and what judges it.
pub(in crate::proxy) struct GuardStage {
    guard: AnswerGuard,
    classifier: Arc<Classifier>,
    /// How long the judgement of a sentence may take.
    timeout: Duration,
}

impl GuardStage {
    /// Takes a guard; nothing if it does not look at answers on their way.
    pub(in crate::proxy) fn new(
        guard: &AnswerGuard,
        classifier: &Arc<Classifier>,
        timeout: Duration,
    ) -> Option<Self> {
        let stage = || Self { guard: guard.clone(), classifier: Arc::clone(classifier), timeout };
        guard.watches().then(stage)
    }

    /// Returns how many bytes the longest forbidden phrase has.
    pub(super) fn longest(&self) -> usize {
        self.guard.words.longest()
    }

    /// Finds forbidden words in a text, as it is written and as it is read; where both are found, places may overlap.
    pub(super) fn find_words(&self, text: &str) -> Vec<Range<usize>> {
        let words = &self.guard.words;
        if words.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<Range<usize>> = words.find(text).collect();
        let folded = FoldedText::new(text);
        if folded.is_changed() {
            found.extend(words.find(folded.read()).map(|range| folded.written(&range)));
        }
        found
    }

    /// Whether texts are read for their meaning, which takes whole sentences.
    pub(super) fn reads_sentences(&self) -> bool {
        self.guard.pii != AnswerAction::Off || self.guard.cuts_jailbreak
    }

    /// Whether what cannot be judged may not go out.
    pub(super) fn rejects_unjudged(&self) -> bool {
        self.guard.on_unknown == GuardOnUnknown::Reject
    }

    /// Judges a text that follows `before`, which has gone out; says why, where it could not be judged.
    pub(super) async fn judge(&self, before: &str, text: &str) -> (Vec<TextFinding>, Option<Unknown>) {
        let (mut found, mut unknown) = (Vec::new(), None);
        if self.guard.on_words != AnswerAction::Off {
            let masks = self.guard.on_words == AnswerAction::Mask;
            let with = |span| TextFinding::of_guard(span, masks.then(|| "[REDACTED]".to_owned()));
            found.extend(self.find_words(text).into_iter().map(with));
        }
        if self.reads_sentences() {
            let findings = self.classify(before, text).await;
            found.extend(self.classified(&findings, before.len(), text));
            let attack = findings.jailbreak.as_ref().and_then(|found| found.as_ref().err().copied());
            let pii = |found: &PiiFindings| found.unknown_among(|kind| self.guard.kinds.holds(kind));
            unknown = attack
                .filter(|reason| *reason != Unknown::Empty)
                .or_else(|| findings.pii.as_ref().and_then(pii));
            if unknown.is_some() && self.rejects_unjudged() {
                found.push(TextFinding::of_guard(0..0, None));
            }
        }
        (found, unknown)
    }

    async fn classify(&self, before: &str, text: &str) -> Findings {
        let looks = self.guard.pii != AnswerAction::Off;
        let by_patterns = self.classifier.spec().finds_by_patterns(&self.guard.kinds);
        let heads = ClassifyHeads {
            pii: looks && !by_patterns,
            patterns: looks && by_patterns,
            jailbreak: self.guard.cuts_jailbreak,
            ..ClassifyHeads::NONE
        };
        let read = format!("{before}{text}");
        let deadline = Instant::now() + self.timeout;
        let limits = ClassifyLimits { deadline, priority: Priority::Required };
        self.classifier.classify(&read, heads, limits).await
    }

    /// Places what the classifier found in a text that follows `shift` bytes of context.
    fn classified(&self, findings: &Findings, shift: usize, text: &str) -> Vec<TextFinding> {
        let mut found = Vec::new();
        if let Some(Ok(risk)) = &findings.jailbreak
            && risk.is_jailbreak()
        {
            found.push(TextFinding::of_guard(0..0, None));
        }
        let masks = self.guard.pii == AnswerAction::Mask;
        for entity in findings.pii.iter().flat_map(|found| &found.entities) {
            let (start, end) =
                (entity.bytes.start.saturating_sub(shift), entity.bytes.end.saturating_sub(shift));
            let counts = self.guard.kinds.holds(&entity.kind)
                && (entity.by == EntitySource::Pattern || entity.bytes.start >= shift);
            if counts && end > start && text.get(start..end).is_some() {
                found.push(TextFinding::of_guard(start..end, masks.then(|| format!("[{}]", entity.kind))));
            }
        }
        found
    }
}
