//! The seam between models and the queue: what a model must be able to do, and what goes in and out.
//!
//! Knows nothing of threads, nor of how the outputs of windows become findings about a text.

use std::ops::Range;
use std::sync::Arc;

use super::paraphrase::{ParaphraseScore, QuestionTokens};
use super::{ClassifyHead, ClassifyHeads};

/// A text without special tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TokenizedText {
    pub(super) ids: Vec<u32>,
    /// Which bytes of the text each of them spans.
    pub(super) bytes: Vec<Range<usize>>,
}

/// The outputs of the wanted heads for one window.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HeadOutputs {
    /// The calibrated probability of each domain.
    pub(super) domain: Option<Vec<f32>>,
    /// The part of the window that most likely attempts to turn a model against its instructions.
    pub(super) jailbreak: Option<JudgedSpan>,
    /// For each token its most probable label, as an index, and the label's probability.
    pub(super) pii: Option<Vec<(u16, f32)>>,
    /// The pooled state, not normalised.
    pub(super) embedding: Option<Vec<f32>>,
    /// For each token of a pair's second text the probability that the first does not support it.
    pub(super) hallucination: Option<Vec<f32>>,
    /// What the window is compared by, as far as a question is read.
    pub(super) question: Option<Arc<QuestionTokens>>,
}

/// A part of a window that was judged by itself, or all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct JudgedSpan {
    /// The calibrated probability.
    pub(super) score: f32,
    /// Its tokens, counted from the window's first.
    pub(super) tokens: Range<usize>,
}

/// Two windows that a model reads side by side; the second is judged by the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowPair<'a> {
    pub(super) first: &'a [u32],
    pub(super) second: &'a [u32],
}

impl HeadOutputs {
    pub(super) fn heads(&self) -> ClassifyHeads {
        ClassifyHeads {
            domain: self.domain.is_some(),
            jailbreak: self.jailbreak.is_some(),
            pii: self.pii.is_some(),
            embedding: self.embedding.is_some(),
            hallucination: self.hallucination.is_some(),
            paraphrase: self.question.is_some(),
            patterns: false,
        }
    }

    /// Takes over from `other` the outputs that are not here.
    pub(super) fn fill_missing_from(&mut self, other: &Self) {
        fill(&mut self.domain, other.domain.as_ref());
        fill(&mut self.jailbreak, other.jailbreak.as_ref());
        fill(&mut self.pii, other.pii.as_ref());
        fill(&mut self.embedding, other.embedding.as_ref());
        fill(&mut self.hallucination, other.hallucination.as_ref());
        fill(&mut self.question, other.question.as_ref());
    }

    /// Says whether all wanted outputs are there, and finite.
    pub(super) fn is_valid(&self, wanted: ClassifyHeads) -> bool {
        let finite = |values: &Option<Vec<f32>>| values.iter().flatten().all(|value| value.is_finite());
        wanted.without(self.heads()).is_empty()
            && finite(&self.domain)
            && finite(&self.embedding)
            && finite(&self.hallucination)
            && self.jailbreak.iter().all(|worst| worst.score.is_finite())
            && self.pii.iter().flatten().all(|(_, probability)| probability.is_finite())
    }
}

fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
    if own.is_none() {
        *own = other.cloned();
    }
}

pub(super) type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// One loaded model, as the threads use it.
pub(super) trait ModelBackend: Send + Sync {
    fn heads(&self) -> ClassifyHeads;

    /// Returns the labels of a head, none where it has no labels.
    fn labels(&self, head: ClassifyHead) -> Vec<Arc<str>>;

    /// Returns the least probability that counts as found, by the model's own configuration.
    fn threshold(&self, head: ClassifyHead) -> f32;

    /// Returns the lower one for where what is overlooked costs more than a false alarm; none if the model has none.
    fn strict_threshold(&self, _head: ClassifyHead) -> Option<f32> {
        None
    }

    /// Returns how many tokens a window or a pair may hold, special ones not counted.
    fn max_input_tokens(&self) -> usize;

    /// Returns how many forwards may run at once: more are not quicker than one after the other.
    fn max_concurrent_forwards(&self) -> usize {
        usize::MAX
    }

    /// Returns how many tokens fit into the device's memory together; a single window is computed whatever its length.
    fn max_batch_tokens(&self) -> usize {
        usize::MAX
    }

    /// Returns what policies call it.
    fn name(&self) -> Arc<str> {
        Arc::default()
    }

    /// Returns the languages that it reads, by ISO 639-1; none if it reads whatever comes.
    fn languages(&self) -> Option<Vec<String>> {
        None
    }

    fn tokenize(&self, text: &str) -> Result<TokenizedText, ModelError>;

    /// Returns the token that stands for what the vocabulary lacks; none where it lacks nothing.
    fn unknown_token(&self) -> Option<u32> {
        None
    }

    /// Computes the wanted heads for each window, in one forward.
    fn run(&self, windows: &[&[u32]], wanted: ClassifyHeads) -> Result<Vec<HeadOutputs>, ModelError>;

    /// Tells whether one answer serves two questions; none if the model compares no questions.
    fn compare(&self, _one: &QuestionTokens, _other: &QuestionTokens) -> Option<ParaphraseScore> {
        None
    }

    /// Judges the second of each pair by the first, in one forward.
    fn run_pairs(&self, _pairs: &[WindowPair<'_>]) -> Result<Vec<HeadOutputs>, ModelError> {
        Err("the model reads no pairs".into())
    }
}
