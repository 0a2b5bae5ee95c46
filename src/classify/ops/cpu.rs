//! Tensors on the CPU as the slices that the kernels work on.
//!
//! Checks shapes, for the kernels do not. Knows nothing of other devices.

use std::ops::Range;

use candle_core::{Device, Layout, Result, Storage, Tensor, bail};

use signalbox_kernels::{self as kernels, Activation, Attention, Norm, PackedMatrix, Reduction, Rope};

/// Returns `then(rows · weightsᵀ + bias)`: (rows, in) to (rows, out).
pub(super) fn product(weights: &PackedMatrix, rows: &Tensor, activation: Activation) -> Result<Tensor> {
    let (count, out) = multiply(weights, rows, activation)?;
    Tensor::from_vec(out, (count, weights.outputs()), &Device::Cpu)
}

/// Returns the norm of `rows · weightsᵀ + bias + residual`.
pub(super) fn product_add_norm(
    weights: &PackedMatrix,
    rows: &Tensor,
    residual: &Tensor,
    norm: &Norm,
) -> Result<Tensor> {
    let (count, mut out) = multiply(weights, rows, Activation::Identity)?;
    if residual.dims() != [count, weights.outputs()] || norm.gain.len() != weights.outputs() {
        bail!("a residual of {:?} for ({count}, {}) rows", residual.shape(), weights.outputs());
    }
    slice(residual, |residual| norm.add_normalize(&mut out, residual))?;
    Tensor::from_vec(out, (count, weights.outputs()), &Device::Cpu)
}

/// Normalises each row.
pub(super) fn normalize(rows: &Tensor, norm: &Norm) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    if norm.gain.len() != width {
        bail!("rows of {width} columns, the norm has {}", norm.gain.len());
    }
    let mut out = slice(rows, <[f32]>::to_vec)?;
    norm.normalize(&mut out);
    Tensor::from_vec(out, (count, width), &Device::Cpu)
}

/// Returns `then(left) · right` of each row's halves.
pub(super) fn gated(rows: &Tensor, activation: Activation) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    let half = width / 2;
    let mut out = vec![0.0; count * half];
    slice(rows, |rows| kernels::gate(rows, half, activation, &mut out))?;
    Tensor::from_vec(out, (count, half), &Device::Cpu)
}

/// Returns each head's mix of values: (tokens, 3 · width) to (tokens, width).
pub(super) fn attention(
    qkv: &Tensor,
    starts: &[usize],
    heads: usize,
    rope: Option<&Rope>,
    reach: Option<usize>,
) -> Result<Tensor> {
    let (tokens, columns) = qkv.dims2()?;
    let width = columns / 3;
    if heads == 0 || columns != 3 * width || !width.is_multiple_of(heads) {
        bail!("{columns} columns do not divide into queries, keys and values of {heads} heads");
    }
    check_starts(starts, tokens)?;
    let size = width / heads;
    let longest = starts.windows(2).map(|text| text[1] - text[0]).max().unwrap_or(0);
    if let Some(rope) = rope
        && (rope.positions() < longest || rope.size() != size)
    {
        bail!("{longest} tokens of {size} columns, there are {} of {}", rope.positions(), rope.size());
    }
    let mut out = vec![0.0; tokens * width];
    slice(qkv, |qkv| kernels::attend(Attention { qkv, starts, heads, size, rope, reach }, &mut out))?;
    Tensor::from_vec(out, (tokens, width), &Device::Cpu)
}

/// Returns the mean of each text's rows: (tokens, width) to (texts, width).
pub(super) fn means(rows: &Tensor, starts: &[usize]) -> Result<Tensor> {
    let (tokens, width) = rows.dims2()?;
    check_starts(starts, tokens)?;
    let texts = starts.len() - 1;
    let mut out = vec![0.0; texts * width];
    slice(rows, |rows| kernels::means(rows, starts, width, &mut out))?;
    Tensor::from_vec(out, (texts, width), &Device::Cpu)
}

/// Reduces each range of rows to one: (rows, width) to (ranges, width).
pub(super) fn reduced(rows: &Tensor, ranges: &[Range<usize>], reduction: Reduction) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    if ranges.iter().any(|range| range.start > range.end || range.end > count) {
        bail!("a range of rows outside of the {count} that there are");
    }
    let mut out = vec![0.0; ranges.len() * width];
    slice(rows, |rows| kernels::reduce(rows, ranges, width, reduction, &mut out))?;
    Tensor::from_vec(out, (ranges.len(), width), &Device::Cpu)
}

fn multiply(weights: &PackedMatrix, rows: &Tensor, activation: Activation) -> Result<(usize, Vec<f32>)> {
    let (count, inputs) = rows.dims2()?;
    if inputs != weights.inputs() {
        bail!("rows of {inputs} columns, the weights take {}", weights.inputs());
    }
    let mut out = vec![0.0; count * weights.outputs()];
    slice(rows, |rows| weights.multiply(rows, &mut out, activation))?;
    Ok((count, out))
}

fn check_starts(starts: &[usize], tokens: usize) -> Result<()> {
    if starts.first() != Some(&0) || starts.last() != Some(&tokens) || !starts.is_sorted() {
        bail!("texts that begin at {starts:?} do not cover {tokens} rows");
    }
    Ok(())
}

/// Lends a tensor's floats, copied only where they do not lie side by side.
fn slice<T>(tensor: &Tensor, using: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("a tensor on the CPU is needed") };
    let (from, to) = span(layout)?;
    Ok(using(&storage.as_slice::<f32>()?[from..to]))
}

fn span(layout: &Layout) -> Result<(usize, usize)> {
    layout.contiguous_offsets().ok_or_else(|| candle_core::Error::msg("a contiguous tensor is needed"))
}
