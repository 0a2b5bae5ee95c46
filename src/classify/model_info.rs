//! What a classifier says of its loaded models.
//!
//! Values alone.

use std::collections::BTreeSet;
use std::time::Duration;

use signalbox_policy::PATTERN_PII_KINDS;

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

impl ModelInfo {
    /// Gives a head's labels; those that mark tokens as kinds, without `O` and without what tells a kind's start.
    pub fn label_names(&self, head: ClassifyHead) -> Vec<String> {
        let labels = self.labels.iter().find(|(of, _)| *of == head).map_or(&[][..], |(_, labels)| labels);
        if head != ClassifyHead::Pii {
            return labels.to_vec();
        }
        let kinds = labels.iter().filter(|label| *label != "O");
        let bare = kinds.map(|label| {
            let kind = label.strip_prefix("B-").or_else(|| label.strip_prefix("I-"));
            kind.unwrap_or(label).to_owned()
        });
        bare.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Gives the kinds of personal data and secrets that these models and the patterns tell apart.
pub fn pii_kinds(models: &[ModelInfo]) -> BTreeSet<String> {
    let model = models.iter().find(|model| model.heads.has(ClassifyHead::Pii));
    let labels = model.map(|model| model.label_names(ClassifyHead::Pii)).unwrap_or_default();
    labels.into_iter().chain(PATTERN_PII_KINDS.map(str::to_owned)).collect()
}
