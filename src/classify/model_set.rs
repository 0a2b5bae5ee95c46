//! The models of a classifier: which of them has which head, and the results of windows seen before.
//!
//! Knows nothing of threads or queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::backend::ModelBackend;
use super::readers::{HeadReaders, Readers};
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
    readers: Vec<HeadReaders>,
    names: Vec<Arc<str>>,
}

/// A kind of head, as the models that have it are used.
struct HeadRef {
    labels: Vec<Arc<str>>,
    /// The least probability that counts as found, for each model by its index.
    thresholds: Vec<(usize, f32)>,
}

impl ModelSet {
    /// Takes each head from the first model that has it, and for languages that this one doesn't read from the next.
    pub(super) fn new(spec: &ClassifierSpec, models: Vec<Arc<dyn ModelBackend>>) -> Self {
        let threshold = |head: ClassifyHead, model: &dyn ModelBackend| {
            let configured = match head {
                ClassifyHead::Jailbreak => match spec.thresholds.jailbreak {
                    Some(AttackThreshold::Score(score)) => Some(score.fraction()),
                    Some(AttackThreshold::Point(OperatingPoint::Strict)) => model.strict_threshold(head),
                    Some(AttackThreshold::Point(OperatingPoint::Balanced)) | None => None,
                },
                ClassifyHead::Pii => spec.thresholds.pii.map(BasisPoints::fraction),
                ClassifyHead::Hallucination => spec.thresholds.hallucination.map(BasisPoints::fraction),
                ClassifyHead::Domain | ClassifyHead::Embedding | ClassifyHead::Paraphrase => None,
            };
            configured.unwrap_or_else(|| model.threshold(head))
        };
        let (mut heads, mut readers) = (BTreeMap::new(), Vec::new());
        for head in ClassifyHead::ALL {
            let Some(of_head) = HeadReaders::of(head, &models) else { continue };
            let thresholds = of_head.indices().map(|at| (at, threshold(head, &*models[at]))).collect();
            heads.insert(head, HeadRef { labels: models[of_head.first()].labels(head), thresholds });
            readers.push(of_head);
        }
        let names = models.iter().map(|model| model.name()).collect();
        let cache = WindowCache::new(spec.cache);
        Self { models, cache, cache_hits: AtomicU64::new(0), spec: spec.clone(), heads, readers, names }
    }

    /// Chooses which models read a text.
    pub(super) fn readers(&self, text: &str, wanted: ClassifyHeads) -> Readers {
        Readers::of(text, wanted, &self.readers)
    }

    /// Returns what policies call the model at that index.
    pub(super) fn name(&self, model: usize) -> Arc<str> {
        self.names.get(model).cloned().unwrap_or_default()
    }

    pub(super) fn heads(&self) -> ClassifyHeads {
        self.heads.keys().copied().collect()
    }

    /// Returns a head's labels, none where no model has the head or the head no labels.
    pub(super) fn labels(&self, head: ClassifyHead) -> &[Arc<str>] {
        self.heads.get(&head).map_or(&[], |head_ref| &head_ref.labels)
    }

    /// Returns the least probability that counts as found by the model at that index.
    pub(super) fn threshold(&self, head: ClassifyHead, model: usize) -> f32 {
        let thresholds = self.heads.get(&head).map_or(&[][..], |head_ref| &head_ref.thresholds);
        thresholds.iter().find(|(of, _)| *of == model).map_or(1.0, |(_, threshold)| *threshold)
    }
}
