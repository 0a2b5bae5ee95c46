//! Tables of which single rows are looked up: vocabularies and positions.
//!
//! Knows nothing of what the rows mean.

use candle_core::{Device, Result, Tensor, bail};

use super::{Matrix, NibbleRows, tensors};
use crate::device::ComputeDevice;

/// A table; for the kernels as its file keeps it.
pub(crate) enum EmbeddingTable {
    Host(Matrix),
    Nibbles(NibbleRows),
    Device(Tensor),
}

impl EmbeddingTable {
    pub(crate) fn new(rows: Matrix, device: &ComputeDevice) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels(_) => Self::Host(rows),
            ComputeDevice::Tensors(engine) => Self::Device(tensors::matrix(rows, engine)?),
        })
    }

    pub(crate) fn of_nibbles(rows: NibbleRows, device: &ComputeDevice) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels(_) => Self::Nibbles(rows),
            ComputeDevice::Tensors(engine) => Self::Device(tensors::matrix(rows.matrix(), engine)?),
        })
    }

    /// Returns the rows of these indices; fails where one is outside.
    pub(crate) fn gather(&self, indices: &[u32]) -> Result<Tensor> {
        match self {
            Self::Host(matrix) => {
                gathered(indices, matrix.dims().1, |index, row| add_row(matrix, index, row))
            }
            Self::Nibbles(table) => gathered(indices, table.dims().1, |index, row| {
                if table.add_row(index, row) {
                    return Ok(());
                }
                bail!("row {index} of a table of {} rows", table.dims().0)
            }),
            Self::Device(table) => {
                if let Some(index) = indices.iter().find(|index| **index as usize >= table.dims()[0]) {
                    bail!("row {index} of a table of {} rows", table.dims()[0]);
                }
                table.index_select(&Tensor::from_slice(indices, indices.len(), table.device())?, 0)
            }
        }
    }
}

fn gathered(indices: &[u32], width: usize, add: impl Fn(usize, &mut [f32]) -> Result<()>) -> Result<Tensor> {
    let mut flat = vec![0f32; indices.len() * width];
    for (row, index) in flat.chunks_exact_mut(width).zip(indices) {
        add(*index as usize, row)?;
    }
    Tensor::from_vec(flat, (indices.len(), width), &Device::Cpu)
}

fn add_row(matrix: &Matrix, index: usize, into: &mut [f32]) -> Result<()> {
    let (rows, cols) = matrix.dims();
    if index >= rows || into.len() != cols {
        bail!("row {index} of a table of {rows} rows");
    }
    match matrix {
        Matrix::F32 { data, .. } => {
            for (x, value) in into.iter_mut().zip(&data[index * cols..]) {
                *x += value;
            }
        }
        Matrix::Int8 { data, scale, .. } => {
            for (x, value) in into.iter_mut().zip(&data[index * cols..]) {
                *x += f32::from(*value) * scale[index];
            }
        }
    }
    Ok(())
}
