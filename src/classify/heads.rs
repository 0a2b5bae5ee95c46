//! Heads: the layers from an encoder's states to probabilities or a vector, for a text or for each of its tokens.
//!
//! Knows nothing of checkpoints' formats, tensors' names or what the labels mean.

use candle_core::{DType, Result, Tensor};

use super::encoder::HiddenStates;
use super::ops::{
    Activation, LayerNorm, Linear, Pooling, concatenated, pool, pool_spans, softmax, with_neighbours,
};
use super::spans::{BatchSpans, SpanGrid};
use super::special_tokens::EncoderInput;

pub(super) struct HeadNetwork {
    /// The layers whose states it reads, side by side.
    pub(super) states: Vec<usize>,
    pub(super) input: HeadInput,
    pub(super) layers: Vec<DenseLayer>,
    pub(super) output: OutputActivation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadInput {
    /// One row for each text: its states pooled in each of these ways, side by side.
    Text(Vec<Pooling>),
    /// The same for each text and, after all texts, for each of their spans.
    Spans { poolings: Vec<Pooling>, grid: SpanGrid },
    /// One row for each token, with so many neighbours on either side.
    Tokens { context: usize },
}

pub(super) struct DenseLayer {
    pub(super) linear: Linear,
    pub(super) activation: Activation,
    pub(super) norm: Option<LayerNorm>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum OutputActivation {
    /// The rows are vectors.
    None,
    /// The rows are logits of labels of which one is right; `bias` is added after the division.
    Softmax { temperature: f32, bias: Vec<f32> },
    /// The rows are logits of labels of which each is right or wrong by itself.
    Sigmoid { temperature: f32 },
}

impl HeadNetwork {
    /// Says whether one label being right makes the others wrong.
    pub(super) fn is_exclusive(&self) -> bool {
        matches!(self.output, OutputActivation::Softmax { .. })
    }

    /// Lays the spans that are judged beside the texts; none where only texts or tokens are.
    pub(super) fn spans(&self, input: &EncoderInput) -> Option<BatchSpans> {
        match &self.input {
            HeadInput::Spans { grid, .. } => Some(grid.lay(input)),
            HeadInput::Text(_) | HeadInput::Tokens { .. } => None,
        }
    }

    /// Returns one row for each text or token, and after them one for each span, in single precision.
    pub(super) fn forward(
        &self,
        states: &HiddenStates,
        starts: &[usize],
        spans: Option<&BatchSpans>,
    ) -> Result<Tensor> {
        let read: Vec<&Tensor> = self.states.iter().map(|state| states.get(*state)).collect::<Result<_>>()?;
        let mut rows = match &self.input {
            HeadInput::Text(poolings) => side_by_side(poolings, |pooling| pool(&read, starts, pooling))?,
            HeadInput::Spans { poolings, .. } => {
                let texts = side_by_side(poolings, |pooling| pool(&read, starts, pooling))?;
                match spans.filter(|spans| !spans.spans.is_empty()) {
                    None => texts,
                    Some(spans) => {
                        let pooled = |pooling| pool_spans(&read, &spans.units, &spans.spans, pooling);
                        Tensor::cat(&[texts, side_by_side(poolings, pooled)?], 0)?
                    }
                }
            }
            HeadInput::Tokens { context } => with_neighbours(&concatenated(&read)?, starts, *context)?,
        };
        for layer in &self.layers {
            rows = layer.linear.forward_activated(&rows, layer.activation)?;
            if let Some(norm) = &layer.norm {
                rows = norm.forward(&rows)?;
            }
        }
        self.output.apply(&rows.to_dtype(DType::F32)?)
    }
}

fn side_by_side(poolings: &[Pooling], pooled: impl Fn(Pooling) -> Result<Tensor>) -> Result<Tensor> {
    let parts = poolings.iter().map(|pooling| pooled(*pooling)).collect::<Result<Vec<_>>>()?;
    concatenated(&parts.iter().collect::<Vec<_>>())
}

impl OutputActivation {
    fn apply(&self, logits: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(logits.clone()),
            Self::Softmax { temperature, bias } => {
                let mut logits = (logits / f64::from(*temperature))?;
                if !bias.is_empty() {
                    let bias = Tensor::from_slice(bias, bias.len(), logits.device())?;
                    logits = logits.broadcast_add(&bias)?;
                }
                softmax(&logits)
            }
            Self::Sigmoid { temperature } => candle_nn::ops::sigmoid(&(logits / f64::from(*temperature))?),
        }
    }
}
