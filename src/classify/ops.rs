//! The steps of a forward pass over padding-free batches: products, norms, attention, lookups, pooling.
//!
//! On the CPU they are our own kernels, elsewhere tensor operations. States are (tokens of the whole batch, width);
//! a [`BatchLayout`], made once for each batch, says which rows are which text's. Knows nothing of checkpoints, tensors'
//! names or what the states mean.

mod cpu;
mod distance_bias;
mod embedding;
mod nibbles;
mod padded;
mod pooling;
mod tensor_layout;
mod tensors;
#[cfg(test)]
mod tests;
mod varlen;

use candle_core::{Result, Tensor, bail};
use signalbox_kernels::{self as kernels, PackedMatrix};

use super::device::{ComputeDevice, RowPrecision};
use tensor_layout::TensorLayout;

pub(super) use distance_bias::DistanceBias;
pub(super) use embedding::EmbeddingTable;
pub(super) use nibbles::NibbleRows;
pub(super) use pooling::{Pooling, concatenated, pool, pool_spans, softmax, with_neighbours};
pub(super) use signalbox_kernels::{Activation, Matrix};

pub(super) enum Linear {
    Packed(PackedMatrix),
    Tensors(tensors::TensorLinear),
}

/// A dense layer of which one half of the outputs, activated, gates the other.
pub(super) enum GatedLinear {
    Packed(PackedMatrix),
    /// What is activated, and what it gates.
    Tensors(tensors::TensorLinear, tensors::TensorLinear),
}

pub(super) enum LayerNorm {
    Slices(kernels::Norm),
    Tensors(tensors::TensorNorm),
}

/// The angles of each position; they rotate pairs of columns that are half a head apart.
#[derive(Clone)]
pub(super) enum RotaryEmbedding {
    Slices(kernels::Rope),
    Tensors(tensors::TensorRope),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    pub(super) heads: usize,
    /// Columns of a head.
    pub(super) head_size: usize,
}

/// Which tokens a layer's attention covers, and how it knows their distance.
#[derive(Clone, Copy)]
pub(super) struct AttentionPattern<'a> {
    pub(super) rope: Option<&'a RotaryEmbedding>,
    /// How many tokens away, on either side, a token sees; all of its text where there is none.
    pub(super) reach: Option<usize>,
    /// What the distance of two tokens adds to their score; with neither of the others.
    pub(super) bias: Option<&'a DistanceBias>,
}

/// The texts of one batch, prepared once for the attention of all layers.
pub(super) struct BatchLayout<'a> {
    /// The row where each text starts, and the one after the last text.
    starts: &'a [usize],
    shape: AttentionShape,
    patterns: &'a [AttentionPattern<'a>],
    tensors: Option<TensorLayout>,
}

impl Linear {
    /// Packs weights (outputs, inputs) for a device.
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, device: &ComputeDevice) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels(_) => Self::Packed(PackedMatrix::new(&weight, bias.as_deref())),
            ComputeDevice::Tensors(engine) => {
                Self::Tensors(tensors::TensorLinear::new(weight, bias, engine)?)
            }
        })
    }

    /// The same for a layer whose rows may be rounded.
    pub(super) fn with_rounded_rows(
        weight: Matrix,
        bias: Option<Vec<f32>>,
        device: &ComputeDevice,
    ) -> Result<Self> {
        match device {
            ComputeDevice::Kernels(RowPrecision::Int8) => {
                Ok(Self::Packed(PackedMatrix::with_rounded_rows(&weight, bias.as_deref())))
            }
            _ => Self::new(weight, bias, device),
        }
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        self.forward_activated(rows, Activation::Identity)
    }

    /// Applies an activation to the product.
    pub(super) fn forward_activated(&self, rows: &Tensor, activation: Activation) -> Result<Tensor> {
        match self {
            Self::Packed(weights) => cpu::product(weights, rows, activation),
            Self::Tensors(linear) => tensors::apply(activation, &linear.forward(rows)?),
        }
    }

    /// Adds a residual to the product.
    pub(super) fn forward_add(&self, rows: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.forward(rows)? + residual
    }

    /// Adds a residual to the product and normalises the sum.
    pub(super) fn forward_add_norm(
        &self,
        rows: &Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
    ) -> Result<Tensor> {
        match (self, norm) {
            (Self::Packed(weights), LayerNorm::Slices(norm)) => {
                cpu::product_add_norm(weights, rows, residual, norm)
            }
            _ => norm.forward(&self.forward_add(rows, residual)?),
        }
    }
}

impl GatedLinear {
    /// Packs weights (2 · outputs, inputs), those of the half that is activated first.
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, device: &ComputeDevice) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels(_) => Self::Packed(PackedMatrix::new(&weight, bias.as_deref())),
            ComputeDevice::Tensors(engine) => {
                let (active, gate) = tensors::halves(weight, bias, engine)?;
                Self::Tensors(active, gate)
            }
        })
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor, activation: Activation) -> Result<Tensor> {
        match self {
            Self::Packed(weights) => {
                cpu::gated(&cpu::product(weights, rows, Activation::Identity)?, activation)
            }
            Self::Tensors(active, gate) => {
                tensors::apply(activation, &active.forward(rows)?)? * gate.forward(rows)?
            }
        }
    }
}

impl LayerNorm {
    pub(super) fn new(
        gain: Vec<f32>,
        shift: Option<Vec<f32>>,
        epsilon: f32,
        device: &ComputeDevice,
    ) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels(_) => Self::Slices(kernels::Norm { gain, shift, epsilon }),
            ComputeDevice::Tensors(engine) => {
                Self::Tensors(tensors::TensorNorm::new(gain, shift, epsilon, engine)?)
            }
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match self {
            Self::Slices(norm) => cpu::normalize(rows, norm),
            Self::Tensors(norm) => norm.forward(rows),
        }
    }
}

impl RotaryEmbedding {
    /// Tabulates `positions` positions; `inverse` holds the angle a position adds, for each pair; `scale`
    /// multiplies cosines and sines.
    pub(super) fn new(inverse: &[f32], positions: usize, scale: f32, device: &ComputeDevice) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels(_) => Self::Slices(kernels::Rope::new(inverse, positions, scale)),
            ComputeDevice::Tensors(engine) => {
                Self::Tensors(tensors::TensorRope::new(inverse, positions, scale, engine)?)
            }
        })
    }
}

impl<'a> BatchLayout<'a> {
    /// Lays out texts for layers whose attention has one of these patterns.
    pub(super) fn new(
        starts: &'a [usize],
        shape: AttentionShape,
        patterns: &'a [AttentionPattern<'a>],
        device: &ComputeDevice,
    ) -> Result<Self> {
        let tensors = match device {
            ComputeDevice::Kernels(_) => None,
            ComputeDevice::Tensors(engine) => Some(TensorLayout::new(starts, shape, patterns, engine)?),
        };
        Ok(Self { starts, shape, patterns, tensors })
    }

    /// Self-attention of each text over itself, by the pattern at that index: (tokens, 3 · width) to (tokens, width).
    pub(super) fn attention(&self, qkv: &Tensor, pattern: usize) -> Result<Tensor> {
        let Some(AttentionPattern { rope, reach, bias }) = self.patterns.get(pattern) else {
            bail!("there is no attention pattern {pattern}")
        };
        if let Some(bias) = bias {
            return bias.attention(qkv, self.starts, self.shape);
        }
        match (&self.tensors, rope) {
            (None, None) => cpu::attention(qkv, self.starts, self.shape.heads, None, *reach),
            (None, Some(RotaryEmbedding::Slices(rope))) => {
                cpu::attention(qkv, self.starts, self.shape.heads, Some(rope), *reach)
            }
            (Some(layout), None) => layout.attention(qkv, pattern, None),
            (Some(layout), Some(RotaryEmbedding::Tensors(rope))) => {
                layout.attention(qkv, pattern, Some(rope))
            }
            _ => bail!("the angles were tabulated for another device"),
        }
    }
}
