//! The steps of a forward pass over padding-free batches: products, norms, attention, lookups, pooling.
//!
//! On the CPU they are kernels of our own, elsewhere tensor operations. States are (tokens of the whole batch, width);
//! a [`Layout`], made once for each batch, says whose rows are whose. Knows nothing of checkpoints, tensors' names or
//! what the states mean.

mod cpu;
mod padded;
mod rows;
mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod varlen;

use candle_core::{Result, Tensor, bail};
use signalbox_kernels::{self as kernels, Packed};

use super::device::Place;

pub(super) use rows::{Pooling, beside, pool, softmax, with_neighbours};
pub(super) use signalbox_kernels::{Matrix, Then};
pub(super) use table::{Table, floats};

/// A dense layer.
pub(super) enum Linear {
    Packed(Packed),
    Tensors(tensors::Linear),
}

/// A dense layer of which one half of the outputs, activated, gates the other.
pub(super) enum Gated {
    Packed(Packed),
    /// What is activated, and what it gates.
    Tensors(tensors::Linear, tensors::Linear),
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

/// How the tokens of a layer see each other.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    /// What tells how far they are from each other.
    pub(super) rope: Option<&'a Rope>,
    /// How many places away a token sees; all of its text where there is none.
    pub(super) reach: Option<usize>,
}

/// One batch, and what every layer that attends over it needs.
pub(super) struct Layout<'a> {
    /// Where each text starts, and where the last one ends.
    starts: &'a [usize],
    heads: usize,
    sights: &'a [Sight<'a>],
    tensors: Option<tensors::Layout>,
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

impl Gated {
    /// Packs weights (2 · out, in), those of the half that is activated first.
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, place: &Place) -> Result<Self> {
        Ok(match place {
            Place::Kernels => Self::Packed(Packed::new(&weight, bias.as_deref())),
            Place::Tensors(engine) => {
                let (active, gate) = tensors::halves(weight, bias, engine)?;
                Self::Tensors(active, gate)
            }
        })
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor, then: Then) -> Result<Tensor> {
        match self {
            Self::Packed(weights) => cpu::gated(&cpu::product(weights, rows, Then::Nothing)?, then),
            Self::Tensors(active, gate) => {
                tensors::apply(then, &active.forward(rows)?)? * gate.forward(rows)?
            }
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

impl<'a> Layout<'a> {
    /// Lays out texts for layers of so many heads, each `size` wide, that see in one of these ways.
    pub(super) fn new(
        starts: &'a [usize],
        (heads, size): (usize, usize),
        sights: &'a [Sight<'a>],
        place: &Place,
    ) -> Result<Self> {
        let tensors = match place {
            Place::Kernels => None,
            Place::Tensors(engine) => Some(tensors::Layout::new(starts, (heads, size), sights, engine)?),
        };
        Ok(Self { starts, heads, sights, tensors })
    }

    /// Self-attention of each text over itself, in the way of that number: (tokens, 3 · width) to (tokens, width).
    pub(super) fn attention(&self, qkv: &Tensor, way: usize) -> Result<Tensor> {
        let Some(Sight { rope, reach }) = self.sights.get(way) else { bail!("tokens see in no way {way}") };
        match (&self.tensors, rope) {
            (None, None) => cpu::attention(qkv, self.starts, self.heads, None, *reach),
            (None, Some(Rope::Slices(rope))) => {
                cpu::attention(qkv, self.starts, self.heads, Some(rope), *reach)
            }
            (Some(layout), None) => layout.attention(qkv, way, None),
            (Some(layout), Some(Rope::Tensors(rope))) => layout.attention(qkv, way, Some(rope)),
            _ => bail!("the angles were tabulated for another place"),
        }
    }
}
