//! The steps of a forward pass over padding-free batches: products, norms, attention, pooling.
//!
//! States are (tokens of the whole batch, width); `starts` (texts + 1 entries) says whose rows are whose. Knows
//! nothing of checkpoints, tensors' names or what the states mean.

mod cpu;

use candle_core::{Device, Result, Tensor, bail};

use signalbox_kernels::{self as kernels, Packed};
pub(super) use signalbox_kernels::{Matrix, Then};

/// A dense layer.
pub(super) struct Linear {
    weights: Packed,
}

/// Layer normalisation.
pub(super) struct Norm(kernels::Norm);

/// Rotary position embeddings: the angles of each position, for pairs that stand half a head apart.
#[derive(Clone)]
pub(super) struct Rope(kernels::Rope);

impl Linear {
    pub(super) fn new(weight: &Matrix, bias: Option<&[f32]>, device: &Device) -> Result<Self> {
        only_cpu(device)?;
        Ok(Self { weights: Packed::new(weight, bias) })
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        self.forward_then(rows, Then::Nothing)
    }

    pub(super) fn forward_then(&self, rows: &Tensor, then: Then) -> Result<Tensor> {
        cpu::product(&self.weights, rows, then)
    }

    pub(super) fn forward_add_norm(&self, rows: &Tensor, residual: &Tensor, norm: &Norm) -> Result<Tensor> {
        cpu::product_add_norm(&self.weights, rows, residual, &norm.0)
    }
}

impl Norm {
    pub(super) fn new(
        gain: Vec<f32>,
        shift: Option<Vec<f32>>,
        epsilon: f32,
        device: &Device,
    ) -> Result<Self> {
        only_cpu(device)?;
        Ok(Self(kernels::Norm { gain, shift, epsilon }))
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        cpu::normalize(rows, &self.0)
    }
}

impl Rope {
    /// Tabulates `positions` positions; `inverse` holds the angle a position adds, for each pair; `scale`
    /// multiplies cosines and sines.
    pub(super) fn new(inverse: &[f32], positions: usize, scale: f32, device: &Device) -> Result<Self> {
        only_cpu(device)?;
        Ok(Self(kernels::Rope::new(inverse, positions, scale)))
    }
}

/// Multiplies the activated first half of each row by its second half.
pub(super) fn gated(rows: &Tensor, then: Then) -> Result<Tensor> {
    cpu::gated(rows, then)
}

/// Self-attention of each text over itself: (tokens, 3 · width) to (tokens, width).
///
/// A token sees those at most `reach` places away, or all of its text.
pub(super) fn attention(
    qkv: &Tensor,
    starts: &[usize],
    heads: usize,
    rope: Option<&Rope>,
    reach: Option<usize>,
) -> Result<Tensor> {
    cpu::attention(qkv, starts, heads, rope.map(|rope| &rope.0), reach)
}

/// The mean of each text's rows: (tokens, width) to (texts, width).
pub(super) fn means(rows: &Tensor, starts: &[usize]) -> Result<Tensor> {
    cpu::means(rows, starts)
}

fn only_cpu(device: &Device) -> Result<()> {
    if device.is_cpu() { Ok(()) } else { bail!("computing needs the CPU, not {:?}", device.location()) }
}
