//! The models of a classifier: which of them has which head, and the results of windows seen before.
//!
//! Knows nothing of threads or queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::backend::ModelBackend;
use super::window_cache::WindowCache;
use super::{ClassifierSpec, ClassifyHead, ClassifyHeads};
use signalbox_policy::{AttackThreshold, BasisPoints, OperatingPoint};

pub(super) struct ModelSet {
    pub(super) models: Vec<Arc<dyn ModelBackend>>,
    pub(super) cache: WindowCache,
    /// Windows that were answered from the cache since the models were loaded.
    pub(super) cache_hits: AtomicU64,
    pub(super) spec: ClassifierSpec,
    heads: BTreeMap<ClassifyHead, HeadRef>,
}

/// The head that is used where several models have one of its kind.
struct HeadRef {
    /// An index into the models.
    model: usize,
    labels: Vec<Arc<str>>,
    threshold: f32,
}

impl ModelSet {
    /// Takes each head from the first model that has it.
    pub(super) fn new(spec: &ClassifierSpec, models: Vec<Arc<dyn ModelBackend>>) -> Self {
        let head_ref = |head: ClassifyHead| {
            let (at, model) = models.iter().enumerate().find(|(_, model)| model.heads().has(head))?;
            let configured = match head {
                ClassifyHead::Jailbreak => match spec.thresholds.jailbreak {
                    Some(AttackThreshold::Score(score)) => Some(score.fraction()),
                    Some(AttackThreshold::Point(OperatingPoint::Strict)) => model.strict_threshold(head),
                    Some(AttackThreshold::Point(OperatingPoint::Balanced)) | None => None,
                },
                ClassifyHead::Pii => spec.thresholds.pii.map(BasisPoints::fraction),
                ClassifyHead::Hallucination => spec.thresholds.hallucination.map(BasisPoints::fraction),
                ClassifyHead::Domain | ClassifyHead::Embedding => None,
            };
            let threshold = configured.unwrap_or_else(|| model.threshold(head));
            Some((head, HeadRef { model: at, labels: model.labels(head), threshold }))
        };
        let heads = ClassifyHead::ALL.into_iter().filter_map(head_ref).collect();
        let cache = WindowCache::new(spec.cache);
        Self { models, cache, cache_hits: AtomicU64::new(0), spec: spec.clone(), heads }
    }

    /// Returns the heads that are taken from the model at that index.
    pub(super) fn heads_of(&self, model: usize) -> ClassifyHeads {
        self.heads.iter().filter(|(_, head_ref)| head_ref.model == model).map(|(head, _)| *head).collect()
    }

    pub(super) fn heads(&self) -> ClassifyHeads {
        self.heads.keys().copied().collect()
    }

    /// Returns a head's labels, none where no model has the head or the head no labels.
    pub(super) fn labels(&self, head: ClassifyHead) -> &[Arc<str>] {
        self.heads.get(&head).map_or(&[], |head_ref| &head_ref.labels)
    }

    /// Returns the least probability that counts as found.
    pub(super) fn threshold(&self, head: ClassifyHead) -> f32 {
        self.heads.get(&head).map_or(1.0, |head_ref| head_ref.threshold)
    }
}
