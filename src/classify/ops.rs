//! The steps of a forward pass over padding-free batches: products, norms, attention, lookups, pooling.
//!
//! States are (tokens of the whole batch, width); `starts` (texts + 1 entries) says whose rows are whose. Knows
//! nothing of checkpoints, tensors' names or what the states mean.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::device::dtype;

/// Padded attention puts texts side by side whose lengths differ by at most this share of the longest one.
const MOST_PADDING: f64 = 0.25;

/// Scores of more elements than this are computed a block of queries at a time.
const MOST_SCORES: usize = 1 << 26;

/// A weight matrix (out, in) as a file keeps it.
pub(super) enum Matrix {
    F32 { rows: usize, cols: usize, data: Vec<f32> },
    Int8 { rows: usize, cols: usize, data: Vec<i8>, scale: Vec<f32> },
}

/// What follows a product element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Gelu,
    GeluTanh,
    Relu,
    Silu,
    Tanh,
    Sigmoid,
}

/// A dense layer.
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// Layer normalisation.
pub(super) struct Norm {
    gain: Tensor,
    shift: Tensor,
    epsilon: f32,
}

/// Rotary position embeddings: the angles of each position, for pairs that stand half a head apart.
#[derive(Clone)]
pub(super) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

/// A table of which single rows are read.
pub(super) enum Table {
    Host(Matrix),
    Device(Tensor),
}

impl Matrix {
    pub(super) fn dims(&self) -> (usize, usize) {
        match self {
            Self::F32 { rows, cols, .. } | Self::Int8 { rows, cols, .. } => (*rows, *cols),
        }
    }

    pub(super) fn into_floats(self) -> Vec<f32> {
        match self {
            Self::F32 { data, .. } => data,
            Self::Int8 { cols, data, scale, .. } => {
                let rows = data.chunks_exact(cols.max(1)).zip(&scale);
                rows.flat_map(|(row, scale)| row.iter().map(move |x| f32::from(*x) * scale)).collect()
            }
        }
    }

    fn tensor(self, device: &Device) -> Result<Tensor> {
        let dims = self.dims();
        Tensor::from_vec(self.into_floats(), dims, device)?.to_dtype(dtype(device))
    }

    fn add_row(&self, index: usize, into: &mut [f32]) -> Result<()> {
        let (rows, cols) = self.dims();
        if index >= rows || into.len() != cols {
            bail!("row {index} of a table of {rows} rows");
        }
        match self {
            Self::F32 { data, .. } => {
                for (x, value) in into.iter_mut().zip(&data[index * cols..]) {
                    *x += value;
                }
            }
            Self::Int8 { data, scale, .. } => {
                for (x, value) in into.iter_mut().zip(&data[index * cols..]) {
                    *x += f32::from(*value) * scale[index];
                }
            }
        }
        Ok(())
    }
}

impl Then {
    pub(super) fn apply(self, rows: &Tensor) -> Result<Tensor> {
        match self {
            Self::Nothing => Ok(rows.clone()),
            Self::Gelu => rows.gelu_erf(),
            Self::GeluTanh => rows.gelu(),
            Self::Relu => rows.relu(),
            Self::Silu => rows.silu(),
            Self::Tanh => rows.tanh(),
            Self::Sigmoid => candle_nn::ops::sigmoid(rows),
        }
    }
}

impl Linear {
    pub(super) fn new(weight: Matrix, bias: Option<Vec<f32>>, device: &Device) -> Result<Self> {
        let rows = weight.dims().0;
        let bias =
            bias.map(|bias| Tensor::from_vec(bias, rows, device)?.to_dtype(dtype(device))).transpose()?;
        Ok(Self { weight: weight.tensor(device)?, bias })
    }

    /// Takes (rows, in), returns (rows, out).
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let out = rows.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => out.broadcast_add(bias),
            None => Ok(out),
        }
    }

    pub(super) fn forward_then(&self, rows: &Tensor, then: Then) -> Result<Tensor> {
        then.apply(&self.forward(rows)?)
    }

    pub(super) fn forward_add(&self, rows: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.forward(rows)? + residual
    }

    pub(super) fn forward_add_norm(&self, rows: &Tensor, residual: &Tensor, norm: &Norm) -> Result<Tensor> {
        norm.forward(&self.forward_add(rows, residual)?)
    }
}

impl Norm {
    pub(super) fn new(
        gain: Vec<f32>,
        shift: Option<Vec<f32>>,
        epsilon: f32,
        device: &Device,
    ) -> Result<Self> {
        let width = gain.len();
        let shift = shift.unwrap_or_else(|| vec![0.0; width]);
        Ok(Self {
            gain: Tensor::from_vec(gain, width, device)?.to_dtype(dtype(device))?,
            shift: Tensor::from_vec(shift, width, device)?.to_dtype(dtype(device))?,
            epsilon,
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        layer_norm(&rows.contiguous()?, &self.gain, &self.shift, self.epsilon)
    }
}

impl Rope {
    /// Tabulates `positions` positions; `inverse` holds the angle a position adds, for each pair; `scale`
    /// multiplies cosines and sines.
    pub(super) fn new(inverse: &[f32], positions: usize, scale: f32, device: &Device) -> Result<Self> {
        let angles = |f: fn(f32) -> f32| {
            let rows =
                (0..positions).flat_map(|at| inverse.iter().map(move |step| f(at as f32 * step) * scale));
            Tensor::from_vec(rows.collect::<Vec<f32>>(), (positions, inverse.len()), device)?
                .to_dtype(dtype(device))
        };
        Ok(Self { cos: angles(f32::cos)?, sin: angles(f32::sin)? })
    }

    /// Takes and returns (texts, heads, positions, head width).
    fn rotate(&self, states: &Tensor) -> Result<Tensor> {
        candle_nn::rotary_emb::rope(&states.contiguous()?, &self.cos, &self.sin)
    }
}

impl Table {
    pub(super) fn new(rows: Matrix, device: &Device) -> Result<Self> {
        Ok(if device.is_cpu() { Self::Host(rows) } else { Self::Device(rows.tensor(device)?) })
    }

    /// Returns the rows of these indices; fails where one is outside.
    pub(super) fn gather(&self, indices: &[u32]) -> Result<Tensor> {
        match self {
            Self::Host(matrix) => {
                let width = matrix.dims().1;
                let mut flat = vec![0f32; indices.len() * width];
                for (row, index) in flat.chunks_exact_mut(width).zip(indices) {
                    matrix.add_row(*index as usize, row)?;
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

/// Multiplies the activated first half of each row by its second half.
pub(super) fn gated(rows: &Tensor, then: Then) -> Result<Tensor> {
    let half = rows.dim(1)? / 2;
    then.apply(&rows.narrow(1, 0, half)?.contiguous()?)? * rows.narrow(1, half, half)?.contiguous()?
}

/// Self-attention of each text over itself: (tokens, 3 · width) to (tokens, width).
///
/// A token sees those at most `reach` places away, or all of its text.
pub(super) fn attention(
    qkv: &Tensor,
    starts: &[usize],
    heads: usize,
    rope: Option<&Rope>,
    reach: Option<usize>,
) -> Result<Tensor> {
    let width = qkv.dim(1)? / 3;
    if let &[0, length] = starts {
        return attend(qkv, &[length], length, (heads, width / heads), rope, reach);
    }
    let mut from = vec![0u32; qkv.dim(0)?];
    let mut groups = Vec::new();
    let mut padded = 0;
    for group in groups_by_length(starts) {
        let lengths: Vec<usize> = group.iter().map(|text| starts[text + 1] - starts[*text]).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut rows = Vec::with_capacity(group.len() * longest);
        for (text, length) in group.iter().zip(&lengths) {
            let start = starts[*text];
            for at in 0..longest {
                if at < *length {
                    from[start + at] = (padded + rows.len()) as u32;
                }
                rows.push((start + at.min(length - 1)) as u32);
            }
        }
        padded += rows.len();
        let rows = Tensor::from_vec(rows, group.len() * longest, qkv.device())?;
        let qkv = qkv.index_select(&rows, 0)?;
        groups.push(attend(&qkv, &lengths, longest, (heads, width / heads), rope, reach)?);
    }
    let from = Tensor::from_vec(from, qkv.dim(0)?, qkv.device())?;
    Tensor::cat(&groups, 0)?.index_select(&from, 0)
}

/// Puts texts of similar length together; leaves out empty ones.
fn groups_by_length(starts: &[usize]) -> Vec<Vec<usize>> {
    let length = |text: usize| starts[text + 1] - starts[text];
    let mut texts: Vec<usize> =
        (0..starts.len().saturating_sub(1)).filter(|text| length(*text) > 0).collect();
    texts.sort_by_key(|text| std::cmp::Reverse(length(*text)));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for text in texts {
        match groups.last_mut() {
            Some(group) if length(text) as f64 >= length(group[0]) as f64 * (1.0 - MOST_PADDING) => {
                group.push(text);
            }
            _ => groups.push(vec![text]),
        }
    }
    groups
}

/// Attention of texts padded to `longest`: (texts · longest, 3 · width) to (texts · longest, width).
fn attend(
    qkv: &Tensor,
    lengths: &[usize],
    longest: usize,
    (heads, size): (usize, usize),
    rope: Option<&Rope>,
    reach: Option<usize>,
) -> Result<Tensor> {
    let texts = lengths.len();
    let split = qkv.reshape((texts, longest, 3, heads, size))?.permute((2, 0, 3, 1, 4))?;
    let (mut query, mut key) = (split.get(0)?, split.get(1)?);
    let value = split.get(2)?.contiguous()?;
    if let Some(rope) = rope {
        (query, key) = (rope.rotate(&query)?, rope.rotate(&key)?);
    }
    let query = (query.contiguous()? * (size as f64).powf(-0.5))?;
    let key = key.transpose(2, 3)?.contiguous()?;
    let block = (MOST_SCORES / (texts * heads * longest).max(1)).max(64);
    let mut blocks = Vec::new();
    for first in (0..longest).step_by(block) {
        let queries = block.min(longest - first);
        let (low, high) = seen(first, queries, longest, reach);
        let key = key.narrow(3, low, high - low)?.contiguous()?;
        let scores = query.narrow(2, first, queries)?.contiguous()?.matmul(&key)?;
        let scores = match mask(lengths, (first, queries), (low, high), reach, qkv.device())? {
            Some(mask) => scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?,
            None => scores,
        };
        let value = value.narrow(2, low, high - low)?.contiguous()?;
        blocks.push(softmax_last_dim(&scores)?.matmul(&value)?);
    }
    let mixed = if blocks.len() == 1 { blocks.swap_remove(0) } else { Tensor::cat(&blocks, 2)? };
    mixed.transpose(1, 2)?.reshape((texts * longest, heads * size))
}

/// The keys that a block of queries may see.
fn seen(first: usize, queries: usize, longest: usize, reach: Option<usize>) -> (usize, usize) {
    match reach {
        Some(reach) => (first.saturating_sub(reach), first.saturating_add(queries + reach).min(longest)),
        None => (0, longest),
    }
}

/// What to add to the scores of (texts, 1, queries, keys): minus infinity where a query may not look.
fn mask(
    lengths: &[usize],
    (first, queries): (usize, usize),
    (low, high): (usize, usize),
    reach: Option<usize>,
    device: &Device,
) -> Result<Option<Tensor>> {
    let reach = reach.unwrap_or(usize::MAX);
    let is_whole = lengths.iter().all(|length| *length >= high);
    if is_whole && (first + queries).saturating_sub(low).max(high - first) <= reach {
        return Ok(None);
    }
    let mut flat = Vec::with_capacity(lengths.len() * queries * (high - low));
    for length in lengths {
        for query in first..first + queries {
            flat.extend((low..high).map(|key| {
                if key < *length && key.abs_diff(query) <= reach { 0.0 } else { f32::NEG_INFINITY }
            }));
        }
    }
    Tensor::from_vec(flat, (lengths.len(), 1, queries, high - low), device).map(Some)
}

/// How the states of a text's tokens become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    Mean,
    Max,
    /// The sum over the square root of the length.
    MeanSqrt,
    /// The mean, each token weighted by its place from 1.
    Weighted,
}

/// Pools each text: (tokens, width) to (texts, width).
pub(super) fn pool(states: &Tensor, starts: &[usize], pooling: Pooling) -> Result<Tensor> {
    let device = states.device();
    let texts = starts.windows(2).map(|pair| (pair[0], pair[1]));
    match pooling {
        Pooling::First | Pooling::Last => {
            let rows: Vec<u32> = texts
                .map(|(start, end)| if pooling == Pooling::First { start as u32 } else { end as u32 - 1 })
                .collect();
            let count = rows.len();
            states.index_select(&Tensor::from_vec(rows, count, device)?, 0)
        }
        Pooling::Max => {
            let rows = texts.map(|(start, end)| states.narrow(0, start, end - start)?.max(0));
            Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
        }
        Pooling::Mean | Pooling::MeanSqrt | Pooling::Weighted => {
            let rows = texts.map(|(start, end)| {
                let length = end - start;
                let states = states.narrow(0, start, length)?.to_dtype(DType::F32)?;
                let shares = Tensor::from_vec(shares(length, pooling), (1, length), device)?;
                shares.matmul(&states)?.to_dtype(dtype(device))
            });
            Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
        }
    }
}

/// The share of each token in the pooled row.
fn shares(length: usize, pooling: Pooling) -> Vec<f32> {
    let all = length as f32;
    match pooling {
        Pooling::Weighted => {
            let sum = all * (all + 1.0) / 2.0;
            (1..=length).map(|place| place as f32 / sum).collect()
        }
        Pooling::MeanSqrt => vec![1.0 / all.sqrt(); length],
        _ => vec![1.0 / all; length],
    }
}

/// Turns each row of scores into probabilities that add up to one.
pub(super) fn softmax(scores: &Tensor) -> Result<Tensor> {
    softmax_last_dim(&scores.to_dtype(DType::F32)?.contiguous()?)
}

/// Puts beside each token's row those of its `context` neighbours on either side; zeros outside its text.
pub(super) fn with_neighbours(states: &Tensor, starts: &[usize], context: usize) -> Result<Tensor> {
    if context == 0 {
        return Ok(states.clone());
    }
    let (tokens, width) = states.dims2()?;
    // One row of zeros at the end stands for every place outside.
    let zero = Tensor::zeros((1, width), states.dtype(), states.device())?;
    let states = Tensor::cat(&[states, &zero], 0)?;
    let mut parts = Vec::with_capacity(2 * context + 1);
    for shift in 0..=2 * context {
        let mut rows = Vec::with_capacity(tokens);
        for pair in starts.windows(2) {
            rows.extend((pair[0]..pair[1]).map(|at| {
                let at = (at + shift).checked_sub(context).filter(|at| (pair[0]..pair[1]).contains(at));
                at.unwrap_or(tokens) as u32
            }));
        }
        parts.push(states.index_select(&Tensor::from_vec(rows, tokens, states.device())?, 0)?);
    }
    Tensor::cat(&parts, D::Minus1)
}
