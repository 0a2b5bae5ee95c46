//! Tensors of a model file: int8 rows with a scale each, or plain f32, in one safetensors file.
//!
//! Knows nothing of what the tensors are for.

use candle_core::safetensors::SliceSafetensors;
use candle_core::{Device, Result, Tensor, bail};

/// One model file, borrowed while a model is built from it.
pub(super) struct Weights<'a> {
    file: SliceSafetensors<'a>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { file: SliceSafetensors::new(bytes)? })
    }

    /// Reads an f32 vector and checks its length.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let view = self.file.get(name)?;
        let data = view.data();
        if view.shape() != [len] || data.len() != len * 4 {
            bail!("{name}: a vector of {len} f32 is needed, the file has {:?}", view.shape());
        }
        Ok(data.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect())
    }

    /// Reads an int8 matrix (rows, columns) and the scale of each row.
    pub(super) fn rows(&self, name: &str, shape: (usize, usize)) -> Result<(Vec<u8>, Vec<f32>)> {
        let view = self.file.get(name)?;
        if view.shape() != [shape.0, shape.1] || view.data().len() != shape.0 * shape.1 {
            bail!("{name}: int8 {shape:?} is needed, the file has {:?}", view.shape());
        }
        Ok((view.data().to_vec(), self.vector(&format!("{name}.scale"), shape.0)?))
    }

    /// Reads an int8 matrix (out, in) as f32 (in, out), its rows side by side with those of `names` before it.
    ///
    /// In this order a product with row-major activations needs no packing of the weights.
    pub(super) fn transposed(&self, names: &[String], shape: (usize, usize)) -> Result<Tensor> {
        let (outputs, inputs) = shape;
        let stride = outputs * names.len();
        let mut flat = vec![0f32; inputs * stride];
        for (part, name) in names.iter().enumerate() {
            let (rows, scales) = self.rows(name, shape)?;
            for (output, (row, scale)) in rows.chunks_exact(inputs).zip(&scales).enumerate() {
                let column = part * outputs + output;
                for (x, quantized) in flat[column..].iter_mut().step_by(stride).zip(row) {
                    *x = f32::from(quantized.cast_signed()) * scale;
                }
            }
        }
        Tensor::from_vec(flat, (inputs, stride), &Device::Cpu)
    }
}

/// A matrix kept as int8 and read a row at a time.
pub(super) struct Table {
    rows: Vec<u8>,
    scales: Vec<f32>,
    width: usize,
}

impl Table {
    pub(super) fn load(weights: &Weights<'_>, name: &str, shape: (usize, usize)) -> Result<Self> {
        let (rows, scales) = weights.rows(name, shape)?;
        Ok(Self { rows, scales, width: shape.1 })
    }

    /// Adds row `index` to `into`; fails when there is no such row.
    pub(super) fn add_row(&self, index: usize, into: &mut [f32]) -> Result<()> {
        let Some(scale) = self.scales.get(index) else {
            bail!("row {index} of a table of {}", self.scales.len());
        };
        let row = &self.rows[index * self.width..][..self.width];
        for (x, quantized) in into.iter_mut().zip(row) {
            *x += f32::from(quantized.cast_signed()) * scale;
        }
        Ok(())
    }
}
