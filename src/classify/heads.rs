//! Heads: what is read off a trunk's states, for a text or for each of its tokens.
//!
//! Knows nothing of checkpoints' formats, tensors' names or what the labels mean.

use candle_core::{DType, Result, Tensor};

use super::ops::{Linear, Norm, Pooling, Then, beside, pool, softmax, with_neighbours};
use super::trunk::States;

/// One loaded head.
pub(super) struct Head {
    /// Which states it reads, side by side.
    pub(super) states: Vec<usize>,
    pub(super) reads: Reads,
    pub(super) layers: Vec<Dense>,
    pub(super) scores: Scores,
}

/// What a head reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reads {
    /// One row for each text: its states pooled in each of these ways, side by side.
    Text(Vec<Pooling>),
    /// One row for each token, with so many neighbours on either side.
    Tokens { context: usize },
}

/// A dense layer of a head.
pub(super) struct Dense {
    pub(super) linear: Linear,
    pub(super) then: Then,
    pub(super) norm: Option<Norm>,
}

/// What becomes of the last layer's rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scores {
    /// They are the answer.
    Raw,
    /// They are logits of labels of which one is right; `bias` is added after the division.
    OneOf { temperature: f32, bias: Vec<f32> },
    /// They are logits of labels of which each is right or wrong by itself.
    Each { temperature: f32 },
}

impl Head {
    /// Says whether one label being right makes the others wrong.
    pub(super) fn is_exclusive(&self) -> bool {
        matches!(self.scores, Scores::OneOf { .. })
    }

    /// Returns one row for each text or token, in single precision.
    pub(super) fn forward(&self, states: &States, starts: &[usize]) -> Result<Tensor> {
        let read: Vec<&Tensor> = self.states.iter().map(|state| states.get(*state)).collect::<Result<_>>()?;
        let mut rows = match &self.reads {
            Reads::Text(poolings) => {
                let parts = poolings.iter().map(|pooling| pool(&read, starts, *pooling));
                beside(&parts.collect::<Result<Vec<_>>>()?.iter().collect::<Vec<_>>())?
            }
            Reads::Tokens { context } => with_neighbours(&beside(&read)?, starts, *context)?,
        };
        for layer in &self.layers {
            rows = layer.linear.forward_then(&rows, layer.then)?;
            if let Some(norm) = &layer.norm {
                rows = norm.forward(&rows)?;
            }
        }
        self.scores.of(&rows.to_dtype(DType::F32)?)
    }
}

impl Scores {
    fn of(&self, logits: &Tensor) -> Result<Tensor> {
        match self {
            Self::Raw => Ok(logits.clone()),
            Self::OneOf { temperature, bias } => {
                let mut logits = (logits / f64::from(*temperature))?;
                if !bias.is_empty() {
                    let bias = Tensor::from_slice(bias, bias.len(), logits.device())?;
                    logits = logits.broadcast_add(&bias)?;
                }
                softmax(&logits)
            }
            Self::Each { temperature } => candle_nn::ops::sigmoid(&(logits / f64::from(*temperature))?),
        }
    }
}
