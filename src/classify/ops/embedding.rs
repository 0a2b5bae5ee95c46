//! Tables of which single rows are looked up: vocabularies and positions.
//!
//! Knows nothing of what the rows mean.

use candle_core::{Device, Result, Tensor, bail};

use super::{Matrix, tensors};
use crate::device::ComputeDevice;

/// A table; for the kernels as its file keeps it.
pub(crate) enum EmbeddingTable {
    Host(Matrix),
    Device(Tensor),
}

impl EmbeddingTable {
    pub(crate) fn new(rows: Matrix, device: &ComputeDevice) -> Result<Self> {
        Ok(match device {
            ComputeDevice::Kernels => Self::Host(rows),
            ComputeDevice::Tensors(engine) => Self::Device(tensors::matrix(rows, engine)?),
        })
    }

    /// Returns the rows of these indices; fails where one is outside.
    pub(crate) fn gather(&self, indices: &[u32]) -> Result<Tensor> {
        match self {
            Self::Host(matrix) => {
                let width = matrix.dims().1;
                let mut flat = vec![0f32; indices.len() * width];
                for (row, index) in flat.chunks_exact_mut(width).zip(indices) {
                    add_row(matrix, *index as usize, row)?;
                }
                Tensor::from_vec(flat, (indices.len(), width), &Device::Cpu)
            }
            Self::Device(table) => {
                if let Some(index) = indices.iter().find(|index| **index as usize >= table.dims()[0]) {
                    bail!("row {index} of a table of {} rows", table.dims()[0]);
                }
                table.index_select(&Tensor::from_slice(indices, indices.len(), table.device())?, 0)
            }
        }
    }
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
