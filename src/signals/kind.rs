//! What makes a kind of signal: what it needs of a request, and what evaluates it.
//!
//! Refuses to know the kinds themselves.

use std::borrow::Cow;
use std::fmt::Debug;

use super::embeddings::ExampleEmbeddings;
use super::findings::ClassifierFindings;
use super::inputs::SignalInputs;
use super::request::RequestView;
use super::value::SignalValue;
use crate::classify::Unknown;

/// One signal of a policy, as its kind reads it.
pub(super) trait SignalSpec {
    /// What must be read of a request, and asked of the classifier.
    fn inputs(&self) -> SignalInputs;

    /// The texts whose embeddings the detector compares prompts with.
    fn examples(&self) -> Vec<Cow<'_, str>> {
        Vec::new()
    }

    /// Makes what evaluates the signal, with all that does not depend on requests compiled or embedded.
    fn detector(&self, embeddings: &ExampleEmbeddings<'_>) -> Result<SignalDetector, regex::Error>;
}

/// What evaluates one signal.
#[derive(Debug)]
pub(super) enum SignalDetector {
    /// From the request alone, while the classifier works.
    Request(Box<dyn RequestDetector>),
    /// From what the classifier found.
    Learned(Box<dyn LearnedDetector>),
    /// All keyword signals of a policy read a text together, by [`KeywordMatcher`](super::kinds::keyword::KeywordMatcher).
    Keyword,
}

/// Evaluates a signal that needs no classifier.
pub(super) trait RequestDetector: Debug + Send + Sync {
    fn evaluate(&self, request: &RequestView<'_>) -> Result<SignalValue, Unknown>;
}

/// Evaluates a signal by what the classifier found.
pub(super) trait LearnedDetector: Debug + Send + Sync {
    fn evaluate(&self, found: &ClassifierFindings<'_>) -> Result<SignalValue, Unknown>;
}
