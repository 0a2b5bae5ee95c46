//! The steps of a forward pass as tensor operations, for devices that have no kernels of our own.
//!
//! Nothing is read back in between: a batch's states stay on the device. Knows nothing of slices or threads.

use candle_core::{Device, Result, Shape, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::table::floats;
use super::{Matrix, Then};
use crate::classify::device::Engine;

/// Padded attention puts texts side by side whose lengths differ by at most this share of the longest one.
const MOST_PADDING: f64 = 0.25;

/// Scores of more elements than this are computed a block of queries at a time.
const MOST_SCORES: usize = 1 << 26;

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
    cos: Tensor,
    sin: Tensor,
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

    /// Takes and returns (texts, heads, positions, head width).
    fn rotate(&self, states: &Tensor) -> Result<Tensor> {
        candle_nn::rotary_emb::rope(&states.contiguous()?, &self.cos, &self.sin)
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

/// Multiplies the activated first half of each row by its second half.
pub(super) fn gated(rows: &Tensor, then: Then) -> Result<Tensor> {
    let half = rows.dim(1)? / 2;
    apply(then, &rows.narrow(1, 0, half)?.contiguous()?)? * rows.narrow(1, half, half)?.contiguous()?
}

/// Self-attention, texts of similar length padded to one another.
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
