//! The seam between models and the queue: tokens, what a model says of one window, and what a model must be able to do.
//!
//! Knows nothing of threads, texts' places or how windows' answers become a text's.

use std::ops::Range;
use std::sync::Arc;

use super::{Question, Questions};

/// A text as a model reads it, without special tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// The tokens' ids.
    pub(super) ids: Vec<u32>,
    /// Which bytes of the text each of them spans.
    pub(super) bytes: Vec<Range<usize>>,
}

/// What the heads say of one window; only what was asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answer {
    /// The calibrated probability of each domain.
    pub(super) domain: Option<Vec<f32>>,
    /// The calibrated probability of an attempt to turn a model against its instructions.
    pub(super) jailbreak: Option<f32>,
    /// For each token the place of its label and the label's probability.
    pub(super) pii: Option<Vec<(u16, f32)>>,
    /// The pooled state, of any length.
    pub(super) embedding: Option<Vec<f32>>,
    /// For each token of a pair's second text the probability that the first does not bear it out.
    pub(super) hallucination: Option<Vec<f32>>,
}

/// Two windows that a model reads side by side; the second is judged by the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) first: &'a [u32],
    pub(super) second: &'a [u32],
}

impl Answer {
    /// Returns the questions that have an answer.
    pub(super) fn questions(&self) -> Questions {
        Questions {
            domain: self.domain.is_some(),
            jailbreak: self.jailbreak.is_some(),
            pii: self.pii.is_some(),
            embedding: self.embedding.is_some(),
            hallucination: self.hallucination.is_some(),
        }
    }

    /// Takes over from `other` what has no answer yet.
    pub(super) fn complete(&mut self, other: &Self) {
        complete(&mut self.domain, other.domain.as_ref());
        complete(&mut self.jailbreak, other.jailbreak.as_ref());
        complete(&mut self.pii, other.pii.as_ref());
        complete(&mut self.embedding, other.embedding.as_ref());
        complete(&mut self.hallucination, other.hallucination.as_ref());
    }

    /// Says whether it answers all that was asked with numbers.
    pub(super) fn is_sound(&self, wanted: Questions) -> bool {
        let plain = |values: &Option<Vec<f32>>| values.iter().flatten().all(|value| value.is_finite());
        wanted.without(self.questions()).is_empty()
            && plain(&self.domain)
            && plain(&self.embedding)
            && plain(&self.hallucination)
            && self.jailbreak.is_none_or(f32::is_finite)
            && self.pii.iter().flatten().all(|(_, probability)| probability.is_finite())
    }
}

fn complete<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
    if own.is_none() {
        *own = other.cloned();
    }
}

/// Why a model gave no answer.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// One loaded model, as the threads use it.
pub(super) trait Encoder: Send + Sync {
    /// Returns which heads it has.
    fn answers(&self) -> Questions;

    /// Returns the labels of a head, none where it has no labels.
    fn labels(&self, question: Question) -> Vec<Arc<str>>;

    /// Returns from which probability on the model's makers count something as found.
    fn threshold(&self, question: Question) -> f32;

    /// Returns how many tokens a window, or a pair of them, may hold beside the special ones.
    fn room(&self) -> usize;

    /// Returns how many forwards at once are quicker than as many one after the other.
    fn at_once(&self) -> usize {
        usize::MAX
    }

    /// Returns how many tokens its device's memory lets it compute together; a single window may hold more.
    fn most_tokens(&self) -> usize {
        usize::MAX
    }

    /// Cuts a text into tokens.
    fn tokens(&self, text: &str) -> Result<Tokens, Fault>;

    /// Answers for each window what is wanted, in one forward.
    fn run(&self, windows: &[&[u32]], wanted: Questions) -> Result<Vec<Answer>, Fault>;

    /// Judges the second of each pair by the first, in one forward.
    fn run_pairs(&self, _pairs: &[Pair<'_>]) -> Result<Vec<Answer>, Fault> {
        Err("the model reads no pairs".into())
    }
}
