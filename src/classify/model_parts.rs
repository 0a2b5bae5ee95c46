//! What the two formats of models, the built-in one and `transformers`' checkpoints, have in common once they are read.
//!
//! Knows nothing of files.

use std::sync::Arc;

use super::backend::JudgedSpan;
use super::encoder::Encoder;
use super::heads::HeadNetwork;
use super::paraphrase::ParaphraseNetwork;
use super::spans::BatchSpans;
use super::special_tokens::EncoderInput;
use super::{ClassifyHead, ClassifyHeads};

/// Which heads of a model are loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadSelection {
    /// Heads of other kinds are left out.
    pub(super) allowed: ClassifyHeads,
    /// The one kind that the model was configured for by name, and must have.
    pub(super) assigned: Option<ClassifyHead>,
}

impl HeadSelection {
    /// Takes whatever heads of these kinds a model has.
    pub(super) fn any(allowed: ClassifyHeads) -> Self {
        Self { allowed, assigned: None }
    }

    /// Requires one head.
    pub(super) fn only(head: ClassifyHead) -> Self {
        Self { allowed: std::iter::once(head).collect(), assigned: Some(head) }
    }
}

pub(super) struct ModelParts {
    /// The architecture, as in `bert`.
    pub(super) family: &'static str,
    pub(super) encoder: Encoder,
    /// A hash of the encoder's configuration, as far as it bears on the numbers.
    pub(super) config_digest: u128,
    pub(super) weights_digest: u128,
    pub(super) heads: Vec<LoadedHead>,
}

pub(super) struct LoadedHead {
    pub(super) kind: ClassifyHead,
    pub(super) network: HeadNetwork,
    pub(super) labels: Vec<Arc<str>>,
    /// Indices of the labels that a guard looks for.
    pub(super) positive: Vec<usize>,
    /// The least probabilities that count as found, where the model's configuration says them.
    pub(super) thresholds: HeadThresholds,
    /// What compares two questions, where that is what its rows are for.
    pub(super) paraphrase: Option<ParaphraseNetwork>,
}

/// The least probabilities that count as found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct HeadThresholds {
    /// What is usual: few false alarms.
    pub(super) balanced: Option<f32>,
    /// Where what is overlooked costs more than a false alarm.
    pub(super) strict: Option<f32>,
}

/// The least probability that counts as found where a model does not say.
const DEFAULT_THRESHOLD: f32 = 0.5;

impl HeadThresholds {
    /// The least probability that counts as found where nothing else is asked for.
    pub(super) fn usual(self) -> f32 {
        self.balanced.unwrap_or(DEFAULT_THRESHOLD)
    }
}

impl LoadedHead {
    pub(super) fn embedding(network: HeadNetwork) -> Self {
        Self::without_labels(ClassifyHead::Embedding, network)
    }

    pub(super) fn of_questions(network: HeadNetwork, paraphrase: ParaphraseNetwork) -> Self {
        let paraphrase = Some(paraphrase);
        Self { paraphrase, ..Self::without_labels(ClassifyHead::Paraphrase, network) }
    }

    pub(super) fn without_labels(kind: ClassifyHead, network: HeadNetwork) -> Self {
        Self {
            kind,
            network,
            labels: Vec::new(),
            positive: Vec::new(),
            thresholds: HeadThresholds::default(),
            paraphrase: None,
        }
    }

    /// Returns the worst part of the text at that index: all of it, or one of its spans.
    pub(super) fn worst(
        &self,
        rows: &[Vec<f32>],
        input: &EncoderInput,
        spans: Option<&BatchSpans>,
        text: usize,
    ) -> JudgedSpan {
        let judged = &input.judged[text];
        let mut worst = JudgedSpan { score: self.risk(&rows[text]), tokens: 0..judged.len() };
        for (spans, span) in
            spans.iter().flat_map(|spans| spans.windows[text].clone().map(move |at| (spans, at)))
        {
            let score = self.risk(&rows[input.judged.len() + span]);
            if score > worst.score {
                let rows = spans.rows(span);
                worst = JudgedSpan { score, tokens: rows.start - judged.start..rows.end - judged.start };
            }
        }
        worst
    }

    /// Returns the probability of any label that a guard looks for.
    pub(super) fn risk(&self, probabilities: &[f32]) -> f32 {
        let positive = self.positive.iter().filter_map(|at| probabilities.get(*at));
        if self.network.is_exclusive() {
            positive.sum::<f32>().min(1.0)
        } else {
            positive.copied().fold(0.0, f32::max)
        }
    }
}
