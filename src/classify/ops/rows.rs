//! From the states of tokens to the rows that heads read, and from those to probabilities; on any device.
//!
//! Knows nothing of layers.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::cpu;

/// How the states of a text's tokens become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::classify) enum Pooling {
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
pub(in crate::classify) fn pool(states: &Tensor, starts: &[usize], pooling: Pooling) -> Result<Tensor> {
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
        Pooling::Mean if device.is_cpu() && states.dtype() == DType::F32 => cpu::means(states, starts),
        Pooling::Mean | Pooling::MeanSqrt | Pooling::Weighted => {
            let rows = texts.map(|(start, end)| {
                let length = end - start;
                let rows = states.narrow(0, start, length)?.to_dtype(DType::F32)?;
                let shares = Tensor::from_vec(shares(length, pooling), (1, length), device)?;
                shares.matmul(&rows)?.to_dtype(states.dtype())
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
pub(in crate::classify) fn softmax(scores: &Tensor) -> Result<Tensor> {
    softmax_last_dim(&scores.to_dtype(DType::F32)?.contiguous()?)
}

/// Puts beside each token's row those of its `context` neighbours on either side; zeros outside its text.
pub(in crate::classify) fn with_neighbours(
    states: &Tensor,
    starts: &[usize],
    context: usize,
) -> Result<Tensor> {
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
