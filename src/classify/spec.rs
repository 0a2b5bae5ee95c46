//! What a classifier is loaded from, which is the policy's own; and what it says of the models it loaded.

use std::time::Duration;

use super::{ClassifyHead, ClassifyHeads};
pub use crate::policy::{
    ClassifierSpec, DeviceChoice, HubSpec, ModelSource, Precision, Thresholds, WindowSpec,
};

/// Gives the models that have one head each.
pub(super) fn assigned(spec: &ClassifierSpec) -> impl Iterator<Item = (ClassifyHead, &ModelSource)> {
    let models = &spec.models;
    let assigned = [
        (ClassifyHead::Domain, &models.domain),
        (ClassifyHead::Jailbreak, &models.jailbreak),
        (ClassifyHead::Pii, &models.pii),
        (ClassifyHead::Embedding, &models.embedding),
        (ClassifyHead::Hallucination, &models.hallucination),
    ];
    assigned.into_iter().filter_map(|(head, model)| Some((head, model.as_ref()?)))
}

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Where it came from, as policies write it.
    pub source: String,
    /// Its architecture, as in `bert`.
    pub family: &'static str,
    /// The heads that are used.
    pub heads: ClassifyHeads,
    /// The labels of each of its heads that has any.
    pub labels: Vec<(ClassifyHead, Vec<String>)>,
    /// How many numbers its weights are.
    pub parameters: usize,
    /// How much memory they take.
    pub bytes: usize,
    /// How many tokens it can read at once, special ones included.
    pub max_tokens: usize,
    /// The length of its embeddings.
    pub width: usize,
    /// Where it runs.
    pub device: String,
    /// In which precision it computes.
    pub dtype: &'static str,
    /// How long it took to load.
    pub load_time: Duration,
}
