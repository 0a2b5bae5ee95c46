//! Pooling: from the states of tokens to the rows that heads read, and from logits to probabilities; on any device.
//!
//! Knows nothing of layers.

use std::ops::Range;

use candle_core::{D, DType, Result, Tensor, bail};
use candle_nn::ops::softmax_last_dim;
use signalbox_kernels::Reduction;

use super::cpu;

/// How a text's states are pooled to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    Mean,
    Max,
    /// The sum over the square root of the length.
    MeanSqrt,
    /// The mean, each token weighted by its position from 1.
    Weighted,
}

/// A matrix of shares (texts, tokens) of more elements than this is multiplied a group of texts at a time.
const MAX_SHARES: usize = 1 << 22;

/// Pools each text: states of (tokens, width) to (texts, width · states), side by side.
pub(crate) fn pool(states: &[&Tensor], starts: &[usize], pooling: Pooling) -> Result<Tensor> {
    let each = |pooled: &dyn Fn(&Tensor) -> Result<Tensor>| {
        let parts = states.iter().map(|state| pooled(state)).collect::<Result<Vec<_>>>()?;
        concatenated(&parts.iter().collect::<Vec<_>>())
    };
    let texts = || starts.windows(2).map(|pair| (pair[0], pair[1]));
    match pooling {
        Pooling::First | Pooling::Last => {
            let place = |(start, end)| if pooling == Pooling::First { start } else { end - 1 };
            let rows: Vec<u32> = texts().map(|text| place(text) as u32).collect();
            let Some(first) = states.first() else { bail!("no states to pool") };
            let rows = Tensor::from_slice(&rows, rows.len(), first.device())?;
            each(&|state| state.index_select(&rows, 0))
        }
        Pooling::Max => each(&|state| {
            let rows = texts().map(|(start, end)| state.narrow(0, start, end - start)?.max(0));
            Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
        }),
        Pooling::Mean if states.iter().all(|state| is_plain(state)) => {
            each(&|state| cpu::means(state, starts))
        }
        Pooling::Mean | Pooling::MeanSqrt | Pooling::Weighted => {
            sums(&concatenated(states)?, starts, pooling)
        }
    }
}

/// Pools spans, each a range of units, which are ranges of tokens: states of (tokens, width) to (spans, width · states), side
/// by side. What spans have in common is read once.
pub(crate) fn pool_spans(
    states: &[&Tensor],
    units: &[Range<usize>],
    spans: &[Range<usize>],
    pooling: Pooling,
) -> Result<Tensor> {
    let reduction = match pooling {
        Pooling::Mean => Reduction::Sum,
        Pooling::Max => Reduction::Max,
        _ => bail!("spans have means and maxima alone"),
    };
    let each = states.iter().map(|state| {
        let of_units = reduced(state, units, reduction)?;
        reduced(&of_units, spans, reduction)
    });
    let pooled = concatenated(&each.collect::<Result<Vec<_>>>()?.iter().collect::<Vec<_>>())?;
    let pooled = if pooling == Pooling::Mean {
        let lengths = spans.iter().map(|span| {
            let tokens: usize = units[span.clone()].iter().map(ExactSizeIterator::len).sum();
            1.0 / tokens.max(1) as f32
        });
        let lengths = Tensor::from_vec(lengths.collect(), (spans.len(), 1), pooled.device())?;
        pooled.broadcast_mul(&lengths)?
    } else {
        pooled
    };
    let Some(first) = states.first() else { bail!("no states to pool") };
    pooled.to_dtype(first.dtype())
}

/// Reduces each range of rows to one, in single precision.
fn reduced(rows: &Tensor, ranges: &[Range<usize>], reduction: Reduction) -> Result<Tensor> {
    if is_plain(rows) {
        return cpu::reduced(rows, ranges, reduction);
    }
    let (count, width) = rows.dims2()?;
    let longest = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0).max(1);
    // Shorter ranges repeat their first row, which changes no maximum, or take the row of zeros at the end.
    let padding = |range: &Range<usize>| if reduction == Reduction::Max { range.start } else { count };
    let places = ranges.iter().flat_map(|range| {
        (0..longest).map(|at| {
            let at = range.start + at;
            if range.contains(&at) { at as u32 } else { padding(range) as u32 }
        })
    });
    let zero = Tensor::zeros((1, width), DType::F32, rows.device())?;
    let rows = Tensor::cat(&[&rows.to_dtype(DType::F32)?, &zero], 0)?;
    let places = Tensor::from_vec(places.collect(), ranges.len() * longest, rows.device())?;
    let grouped = rows.index_select(&places, 0)?.reshape((ranges.len(), longest, width))?;
    match reduction {
        Reduction::Sum => grouped.sum(1),
        Reduction::Max => grouped.max(1),
    }
}

fn is_plain(state: &Tensor) -> bool {
    state.device().is_cpu() && state.dtype() == DType::F32
}

/// Concatenates rows.
pub(crate) fn concatenated(parts: &[&Tensor]) -> Result<Tensor> {
    match parts {
        [] => bail!("a head that reads nothing"),
        [one] => Ok((*one).clone()),
        many => Tensor::cat(many, D::Minus1),
    }
}

/// Adds up the tokens' rows, each times its share, by one product for many texts.
fn sums(states: &Tensor, starts: &[usize], pooling: Pooling) -> Result<Tensor> {
    let mut sums = Vec::new();
    let mut rest = starts;
    while rest.len() > 1 {
        let fits = |texts: &usize| texts * (rest[*texts] - rest[0]) <= MAX_SHARES;
        let texts = (1..rest.len()).take_while(fits).last().unwrap_or(1);
        let (first, tokens) = (rest[0], rest[texts] - rest[0]);
        let mut flat = vec![0.0; texts * tokens];
        for (row, text) in flat.chunks_exact_mut(tokens.max(1)).zip(rest.windows(2)) {
            let length = text[1] - text[0];
            row[text[0] - first..][..length].copy_from_slice(&shares(length, pooling));
        }
        let shares = Tensor::from_vec(flat, (texts, tokens), states.device())?;
        sums.push(shares.matmul(&states.narrow(0, first, tokens)?.to_dtype(DType::F32)?)?);
        rest = &rest[texts..];
    }
    Tensor::cat(&sums, 0)?.to_dtype(states.dtype())
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
pub(crate) fn softmax(scores: &Tensor) -> Result<Tensor> {
    softmax_last_dim(&scores.to_dtype(DType::F32)?.contiguous()?)
}

/// Concatenates each token's row with those of its `context` neighbours on either side; zeros outside its text.
pub(crate) fn with_neighbours(states: &Tensor, starts: &[usize], context: usize) -> Result<Tensor> {
    if context == 0 {
        return Ok(states.clone());
    }
    let (tokens, width) = states.dims2()?;
    // Neighbours outside a text are all this one row of zeros at the end.
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
