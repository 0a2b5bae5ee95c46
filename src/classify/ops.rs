//! The steps of a forward pass over padding-free batches: products, norms, attention, lookups, pooling.
//!
//! On the CPU they are kernels of our own, elsewhere tensor operations. States are (tokens of the whole batch, width);
//! `starts` (texts + 1 entries) says whose rows are whose. Knows nothing of checkpoints, tensors' names or what the
//! states mean.

mod cpu;
mod rows;
mod table;
mod tensors;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};
use signalbox_kernels::{self as kernels, Packed};

use super::device::Place;

pub(super) use rows::{Pooling, pool, softmax, with_neighbours};
pub(super) use signalbox_kernels::{Matrix, Then};
pub(super) use table::{Table, floats};

/// A dense layer.
pub(super) enum Linear {
    Packed(Packed),
    Tensors(tensors::Linear),
}

/// Layer normalisation.
pub(super) enum Norm {
    Slices(kernels::Norm),
    Tensors(tensors::Norm),
}

/// Rotary position embeddings: the angles of each position, for pairs that stand half a head apart.
#[derive(Clone)]
pub(super) enum Rope {
    Slices(kernels::Rope),
    Tensors(tensors::Rope),
}

impl Linear {
    /// Packs weights (out, in) for the place where they will be used.
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, place: &Place) -> Result<Self> {
        Ok(match place {
            Place::Kernels => Self::Packed(Packed::new(&weight, bias.as_deref())),
            Place::Tensors(engine) => Self::Tensors(tensors::Linear::new(weight, bias, engine)?),
        })
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        self.forward_then(rows, Then::Nothing)
    }

    /// Applies an activation to the product.
    pub(super) fn forward_then(&self, rows: &Tensor, then: Then) -> Result<Tensor> {
        match self {
            Self::Packed(weights) => cpu::product(weights, rows, then),
            Self::Tensors(linear) => tensors::apply(then, &linear.forward(rows)?),
        }
    }

    /// Adds a residual to the product.
    pub(super) fn forward_add(&self, rows: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.forward(rows)? + residual
    }

    /// Adds a residual to the product and normalises the sum.
    pub(super) fn forward_add_norm(&self, rows: &Tensor, residual: &Tensor, norm: &Norm) -> Result<Tensor> {
        match (self, norm) {
            (Self::Packed(weights), Norm::Slices(norm)) => {
                cpu::product_add_norm(weights, rows, residual, norm)
            }
            _ => norm.forward(&self.forward_add(rows, residual)?),
        }
    }
}

impl Norm {
    pub(super) fn new(gain: Vec<f32>, shift: Option<Vec<f32>>, epsilon: f32, place: &Place) -> Result<Self> {
        Ok(match place {
            Place::Kernels => Self::Slices(kernels::Norm { gain, shift, epsilon }),
            Place::Tensors(engine) => Self::Tensors(tensors::Norm::new(gain, shift, epsilon, engine)?),
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        match self {
            Self::Slices(norm) => cpu::normalize(rows, norm),
            Self::Tensors(norm) => norm.forward(rows),
        }
    }
}

impl Rope {
    /// Tabulates `positions` positions; `inverse` holds the angle a position adds, for each pair; `scale`
    /// multiplies cosines and sines.
    pub(super) fn new(inverse: &[f32], positions: usize, scale: f32, place: &Place) -> Result<Self> {
        Ok(match place {
            Place::Kernels => Self::Slices(kernels::Rope::new(inverse, positions, scale)),
            Place::Tensors(engine) => Self::Tensors(tensors::Rope::new(inverse, positions, scale, engine)?),
        })
    }
}

impl Place {
    /// Multiplies the activated first half of each row by its second half.
    pub(super) fn gated(&self, rows: &Tensor, then: Then) -> Result<Tensor> {
        match self {
            Self::Kernels => cpu::gated(rows, then),
            Self::Tensors(_) => tensors::gated(rows, then),
        }
    }

    /// Self-attention of each text over itself: (tokens, 3 · width) to (tokens, width).
    ///
    /// A token sees those at most `reach` places away, or all of its text.
    pub(super) fn attention(
        &self,
        qkv: &Tensor,
        starts: &[usize],
        heads: usize,
        rope: Option<&Rope>,
        reach: Option<usize>,
    ) -> Result<Tensor> {
        match (self, rope) {
            (Self::Kernels, None) => cpu::attention(qkv, starts, heads, None, reach),
            (Self::Kernels, Some(Rope::Slices(rope))) => {
                cpu::attention(qkv, starts, heads, Some(rope), reach)
            }
            (Self::Tensors(_), None) => tensors::attention(qkv, starts, heads, None, reach),
            (Self::Tensors(_), Some(Rope::Tensors(rope))) => {
                tensors::attention(qkv, starts, heads, Some(rope), reach)
            }
            _ => bail!("the angles were tabulated for another place"),
        }
    }
}
