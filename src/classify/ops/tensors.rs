//! The steps of a forward pass as tensor operations, for devices that have no kernels of our own.
//!
//! Nothing is read back in between: a batch's states stay on the device. Knows nothing of slices or threads.

use candle_core::{Result, Shape, Tensor};
use candle_nn::ops::layer_norm;

use super::{Activation, Matrix};
use crate::device::TensorEngine;

/// A dense layer; its weight is (outputs, inputs).
pub(crate) struct TensorLinear {
    weight: Tensor,
    bias: Option<Tensor>,
}

pub(crate) struct TensorNorm {
    gain: Tensor,
    shift: Tensor,
    epsilon: f32,
}

/// The angles' cosines and sines, for as many positions as a model has.
#[derive(Clone)]
pub(crate) struct TensorRope {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

impl TensorLinear {
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, engine: &TensorEngine) -> Result<Self> {
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

impl TensorNorm {
    pub(super) fn new(
        gain: Vec<f32>,
        shift: Option<Vec<f32>>,
        epsilon: f32,
        engine: &TensorEngine,
    ) -> Result<Self> {
        let width = gain.len();
        let shift = shift.unwrap_or_else(|| vec![0.0; width]);
        Ok(Self { gain: placed(width, gain, engine)?, shift: placed(width, shift, engine)?, epsilon })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        layer_norm(&rows.contiguous()?, &self.gain, &self.shift, self.epsilon)
    }
}

impl TensorRope {
    /// Tabulates `positions` positions; `inverse` holds the angle a position adds, for each pair; `scale`
    /// multiplies cosines and sines.
    pub(super) fn new(inverse: &[f32], positions: usize, scale: f32, engine: &TensorEngine) -> Result<Self> {
        let angles = |f: fn(f32) -> f32| {
            let rows =
                (0..positions).flat_map(|at| inverse.iter().map(move |step| f(at as f32 * step) * scale));
            placed((positions, inverse.len()), rows.collect(), engine)
        };
        Ok(Self { cos: angles(f32::cos)?, sin: angles(f32::sin)? })
    }
}

/// Queries, keys and values; only the last dimension of each need be contiguous.
pub(super) struct Qkv {
    pub(super) query: Tensor,
    pub(super) key: Tensor,
    pub(super) value: Tensor,
}

/// Puts a matrix on a device, in the device's precision.
pub(super) fn matrix(matrix: Matrix, engine: &TensorEngine) -> Result<Tensor> {
    placed(matrix.dims(), matrix.into_f32(), engine)
}

fn placed(shape: impl Into<Shape>, numbers: Vec<f32>, engine: &TensorEngine) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &engine.device)?.to_dtype(engine.dtype)
}

/// Applies an activation to each element.
pub(super) fn apply(activation: Activation, rows: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(rows.clone()),
        Activation::Gelu => rows.gelu_erf(),
        Activation::GeluTanh => rows.gelu(),
        Activation::Relu => rows.relu(),
        Activation::Silu => rows.silu(),
        Activation::Tanh => rows.tanh(),
        Activation::Sigmoid => candle_nn::ops::sigmoid(rows),
    }
}

/// Places the two halves of a dense layer's outputs as one layer each: their products lie side by side in memory.
pub(super) fn halves(
    weight: Matrix,
    bias: Option<Vec<f32>>,
    engine: &TensorEngine,
) -> Result<(TensorLinear, TensorLinear)> {
    let (rows, cols) = weight.dims();
    let half = rows / 2;
    let mut first = weight.into_f32();
    let second = first.split_off(half * cols);
    let (mut bias, mut second_bias) = (bias, None);
    if let Some(first) = &mut bias {
        second_bias = Some(first.split_off(half));
    }
    let part = |data: Vec<f32>, bias| TensorLinear::new(Matrix::F32 { rows: half, cols, data }, bias, engine);
    Ok((part(first, bias)?, part(second, second_bias)?))
}
