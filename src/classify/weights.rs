//! Tensors of a model file: plain f32 or int8 rows with a scale each, in one safetensors file.
//!
//! Knows nothing of what the tensors are for.

use candle_core::safetensors::SliceSafetensors;
use candle_core::{Result, bail};
use safetensors::Dtype;

use super::ops::Matrix;

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

    /// Reads matrices (out, in), one above the other, as they are kept: all f32 or all int8.
    pub(super) fn matrix(&self, names: &[String], shape: (usize, usize)) -> Result<Matrix> {
        let (rows, cols) = (shape.0 * names.len(), shape.1);
        let is_float = |name: &String| Ok(self.file.get(name)?.dtype() == Dtype::F32);
        let floats = names.iter().map(is_float).collect::<Result<Vec<bool>>>()?;
        if floats.iter().all(|is_float| *is_float) {
            let mut data = Vec::with_capacity(rows * cols);
            for name in names {
                data.extend(self.floats(name, &[shape.0, shape.1])?);
            }
            return Ok(Matrix::F32 { rows, cols, data });
        }
        let (mut data, mut scale) = (Vec::with_capacity(rows * cols), Vec::with_capacity(rows));
        for name in names {
            let (values, scales) = self.rows(name, shape)?;
            data.extend(values.into_iter().map(u8::cast_signed));
            scale.extend(scales);
        }
        Ok(Matrix::Int8 { rows, cols, data, scale })
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
