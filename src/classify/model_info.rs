//! What a classifier says of its loaded models.
//!
//! Values alone.

use std::time::Duration;

use super::{ClassifyHead, ClassifyHeads};

/// A loaded model.
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
