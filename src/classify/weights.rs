//! Tensors of a model file: plain f32 or int8 rows with a scale each, in one safetensors file.
//!
//! Knows nothing of what the tensors are for.

use candle_core::safetensors::SliceSafetensors;
use candle_core::{Device, Result, Tensor, bail};
use safetensors::Dtype;

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
        self.floats(name, &[len])
    }

    /// Reads an int8 matrix (rows, columns) and the scale of each row.
    pub(super) fn rows(&self, name: &str, shape: (usize, usize)) -> Result<(Vec<u8>, Vec<f32>)> {
        let view = self.file.get(name)?;
        if view.dtype() != Dtype::I8 || view.shape() != [shape.0, shape.1] {
            bail!("{name}: int8 {shape:?} is needed, the file has {:?} {:?}", view.dtype(), view.shape());
        }
        Ok((view.data().to_vec(), self.vector(&format!("{name}.scale"), shape.0)?))
    }

    /// Reads a matrix (out, in), f32 or int8, as f32 (in, out); several stand side by side.
    ///
    /// In this order a product with row-major activations needs no packing of the weights.
    pub(super) fn transposed(&self, names: &[String], shape: (usize, usize)) -> Result<Tensor> {
        let (outputs, inputs) = shape;
        let stride = outputs * names.len();
        let mut flat = vec![0f32; inputs * stride];
        for (part, name) in names.iter().enumerate() {
            let rows = self.plain(name, shape)?;
            for (output, row) in rows.chunks_exact(inputs).enumerate() {
                let column = part * outputs + output;
                for (x, value) in flat[column..].iter_mut().step_by(stride).zip(row) {
                    *x = *value;
                }
            }
        }
        Tensor::from_vec(flat, (inputs, stride), &Device::Cpu)
    }

    /// Reads a matrix (rows, columns) as f32, whichever way it is kept.
    fn plain(&self, name: &str, shape: (usize, usize)) -> Result<Vec<f32>> {
        if self.file.get(name)?.dtype() == Dtype::F32 {
            return self.floats(name, &[shape.0, shape.1]);
        }
        let (rows, scales) = self.rows(name, shape)?;
        let values = rows.chunks_exact(shape.1).zip(&scales).flat_map(|(row, scale)| {
            row.iter().map(move |quantized| f32::from(quantized.cast_signed()) * scale)
        });
        Ok(values.collect())
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.file.get(name)?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            bail!("{name}: f32 {shape:?} is needed, the file has {:?} {:?}", view.dtype(), view.shape());
        }
        Ok(view.data().as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect())
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
