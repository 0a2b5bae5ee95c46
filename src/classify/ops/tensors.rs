//! The steps of a forward pass as tensor operations, for devices that have no kernels of our own.
//!
//! Nothing is read back in between: a batch's states stay on the device. Knows nothing of slices or threads.

use candle_core::{Result, Shape, Tensor};
use candle_nn::ops::layer_norm;

use super::padded::Padded;
use super::table::floats;
use super::varlen::Varlen;
use super::{Matrix, Sight, Then};
use crate::classify::device::Engine;

/// A dense layer: weights (out, in).
pub(in crate::classify) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// Layer normalisation.
pub(in crate::classify) struct Norm {
    gain: Tensor,
    shift: Tensor,
    epsilon: f32,
}

/// The angles' cosines and sines, for as many positions as a model has.
#[derive(Clone)]
pub(in crate::classify) struct Rope {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

/// What attention needs to know of a batch, on the device.
pub(super) enum Layout {
    Padded(Padded),
    Varlen(Varlen),
}

impl Linear {
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, engine: &Engine) -> Result<Self> {
        let bias = bias.map(|bias| placed(bias.len(), bias, engine)).transpose()?;
        Ok(Self { weight: matrix(weight, engine)?, bias })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let out = rows.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => out.broadcast_add(bias),
            None => Ok(out),
        }
    }
}

impl Norm {
    pub(super) fn new(
        gain: Vec<f32>,
        shift: Option<Vec<f32>>,
        epsilon: f32,
        engine: &Engine,
    ) -> Result<Self> {
        let width = gain.len();
        let shift = shift.unwrap_or_else(|| vec![0.0; width]);
        Ok(Self { gain: placed(width, gain, engine)?, shift: placed(width, shift, engine)?, epsilon })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        layer_norm(&rows.contiguous()?, &self.gain, &self.shift, self.epsilon)
    }
}

impl Rope {
    /// Tabulates `positions` positions; `inverse` holds the angle a position adds, for each pair; `scale`
    /// multiplies cosines and sines.
    pub(super) fn new(inverse: &[f32], positions: usize, scale: f32, engine: &Engine) -> Result<Self> {
        let angles = |f: fn(f32) -> f32| {
            let rows =
                (0..positions).flat_map(|at| inverse.iter().map(move |step| f(at as f32 * step) * scale));
            placed((positions, inverse.len()), rows.collect(), engine)
        };
        Ok(Self { cos: angles(f32::cos)?, sin: angles(f32::sin)? })
    }
}

/// Puts a matrix on a device, in the device's precision.
pub(super) fn matrix(matrix: Matrix, engine: &Engine) -> Result<Tensor> {
    placed(matrix.dims(), floats(matrix), engine)
}

fn placed(shape: impl Into<Shape>, numbers: Vec<f32>, engine: &Engine) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &engine.device)?.to_dtype(engine.dtype)
}

/// Applies an activation to each element.
pub(super) fn apply(then: Then, rows: &Tensor) -> Result<Tensor> {
    match then {
        Then::Nothing => Ok(rows.clone()),
        Then::Gelu => rows.gelu_erf(),
        Then::GeluTanh => rows.gelu(),
        Then::Relu => rows.relu(),
        Then::Silu => rows.silu(),
        Then::Tanh => rows.tanh(),
        Then::Sigmoid => candle_nn::ops::sigmoid(rows),
    }
}

/// Places the two halves of a dense layer's outputs as one layer each: their products lie side by side in memory.
pub(super) fn halves(weight: Matrix, bias: Option<Vec<f32>>, engine: &Engine) -> Result<(Linear, Linear)> {
    let (rows, cols) = weight.dims();
    let half = rows / 2;
    let mut first = floats(weight);
    let second = first.split_off(half * cols);
    let (mut bias, mut second_bias) = (bias, None);
    if let Some(first) = &mut bias {
        second_bias = Some(first.split_off(half));
    }
    let part = |data: Vec<f32>, bias| Linear::new(Matrix::F32 { rows: half, cols, data }, bias, engine);
    Ok((part(first, bias)?, part(second, second_bias)?))
}

impl Layout {
    pub(super) fn new(
        starts: &[usize],
        (heads, size): (usize, usize),
        sights: &[Sight<'_>],
        engine: &Engine,
    ) -> Result<Self> {
        if engine.has_flash(size) {
            return Varlen::new(starts, (heads, size), sights, engine).map(Self::Varlen);
        }
        let reaches: Vec<Option<usize>> = sights.iter().map(|sight| sight.reach).collect();
        Padded::new(starts, (heads, size), &reaches, engine).map(Self::Padded)
    }

    pub(super) fn attention(&self, qkv: &Tensor, way: usize, rope: Option<&Rope>) -> Result<Tensor> {
        match self {
            Self::Padded(padded) => padded.attention(qkv, way, rope),
            Self::Varlen(varlen) => varlen.attention(qkv, way),
        }
    }
}
