//! Attention over texts one after the other, without padding, by FlashAttention-2 where it was built in.
//!
//! What depends on the texts alone, and the angles of their tokens, is made once for a batch. Knows nothing of layers.

use candle_core::{Result, Tensor, bail};
use candle_nn::rotary_emb::rope_thd;

use super::tensors::{Qkv, TensorRope};
use super::{AttentionPattern, AttentionShape, RotaryEmbedding};
use crate::device::TensorEngine;

pub(super) struct VarlenAttention {
    shape: AttentionShape,
    /// Where each text starts, and where the last one ends.
    starts: Tensor,
    longest: usize,
    /// Which rows of a state's width are queries, then which are keys.
    pairs: Tensor,
    patterns: Vec<PatternAngles>,
}

struct PatternAngles {
    /// For each query, then for each key.
    angles: Option<TensorRope>,
    reach: Option<usize>,
}

impl VarlenAttention {
    /// Lays out texts for layers whose attention has one of these patterns.
    pub(super) fn new(
        starts: &[usize],
        shape: AttentionShape,
        patterns: &[AttentionPattern<'_>],
        engine: &TensorEngine,
    ) -> Result<Self> {
        let tokens = starts.last().copied().unwrap_or(0);
        let texts = || starts.windows(2).map(|text| text[1] - text[0]);
        let upload = |numbers: Vec<u32>| {
            let count = numbers.len();
            Tensor::from_vec(numbers, count, &engine.device)
        };
        let once = texts().flat_map(|length| 0..length as u32);
        let places = upload(once.clone().chain(once).collect())?;
        let patterns = patterns.iter().map(|pattern| {
            let angles = match pattern.rope {
                None => None,
                Some(RotaryEmbedding::Tensors(rope)) => Some(TensorRope {
                    cos: rope.cos.index_select(&places, 0)?,
                    sin: rope.sin.index_select(&places, 0)?,
                }),
                Some(RotaryEmbedding::Slices(_)) => bail!("the angles were tabulated for another device"),
            };
            Ok(PatternAngles { angles, reach: pattern.reach })
        });
        let pairs = (0..2).flat_map(|which| (0..tokens).map(move |token| (3 * token + which) as u32));
        Ok(Self {
            shape,
            starts: upload(starts.iter().map(|start| *start as u32).collect())?,
            longest: texts().max().unwrap_or(0),
            pairs: upload(pairs.collect())?,
            patterns: patterns.collect::<Result<_>>()?,
        })
    }

    /// Takes (tokens, 3 · width), returns (tokens, width).
    pub(super) fn attention(&self, qkv: &Tensor, index: usize) -> Result<Tensor> {
        let (tokens, columns) = qkv.dims2()?;
        let Some(pattern) = self.patterns.get(index) else { bail!("there is no attention pattern {index}") };
        let parts = self.parts(qkv, pattern.angles.as_ref())?;
        let scale = (self.shape.head_size as f32).powf(-0.5);
        self.attend(&parts, scale, pattern.reach)?.reshape((tokens, columns / 3))
    }

    /// Returns each as (tokens, heads, head width), queries and keys rotated by their positions.
    fn parts(&self, qkv: &Tensor, angles: Option<&TensorRope>) -> Result<Qkv> {
        let tokens = qkv.dim(0)?;
        let AttentionShape { heads, head_size } = self.shape;
        let split = qkv.reshape((tokens, 3, heads, head_size))?;
        let part = |which| split.narrow(1, which, 1)?.squeeze(1);
        let Some(angles) = angles else { return Ok(Qkv { query: part(0)?, key: part(1)?, value: part(2)? }) };
        let pairs = qkv.reshape((3 * tokens, heads * head_size))?.index_select(&self.pairs, 0)?;
        let pairs = rope_thd(&pairs.reshape((1, 2 * tokens, heads, head_size))?, &angles.cos, &angles.sin)?;
        let pairs = pairs.squeeze(0)?;
        Ok(Qkv { query: pairs.narrow(0, 0, tokens)?, key: pairs.narrow(0, tokens, tokens)?, value: part(2)? })
    }

    #[cfg(feature = "flash-attn")]
    fn attend(&self, qkv: &Qkv, scale: f32, reach: Option<usize>) -> Result<Tensor> {
        // A query at i sees the keys from i - left to i + right, both included.
        candle_flash_attn::flash_attn_varlen_windowed(
            &qkv.query,
            &qkv.key,
            &qkv.value,
            &self.starts,
            &self.starts,
            self.longest,
            self.longest,
            scale,
            reach,
            reach,
        )
    }

    #[cfg(not(feature = "flash-attn"))]
    fn attend(&self, _: &Qkv, _: f32, _: Option<usize>) -> Result<Tensor> {
        bail!(
            "flash attention was not built in, for texts of up to {} tokens at {}",
            self.longest,
            self.starts
        )
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::ops::softmax_last_dim;

    use super::*;
    use crate::device::ComputeDevice;
    use crate::ops::BatchLayout;

    /// What the kernel computes, text by text.
    fn attend(qkv: &Qkv, starts: &[usize], reach: Option<usize>) -> Tensor {
        let size = qkv.query.dim(2).unwrap();
        let mut mixed = Vec::new();
        for text in starts.windows(2) {
            let (from, count) = (text[0], text[1] - text[0]);
            let of = |part: &Tensor| {
                part.narrow(0, from, count).unwrap().transpose(0, 1).unwrap().contiguous().unwrap()
            };
            let near = |at: usize| {
                let (at, to) = (at / count, at % count);
                if reach.is_none_or(|reach| to + reach >= at && to <= at + reach) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            };
            let mask: Vec<f32> = (0..count * count).map(near).collect();
            let mask = Tensor::from_vec(mask, (1, count, count), &Device::Cpu).unwrap();
            let key = of(&qkv.key).transpose(1, 2).unwrap();
            let scores = (of(&qkv.query).matmul(&key).unwrap() * (size as f64).powf(-0.5)).unwrap();
            let shares = softmax_last_dim(&scores.broadcast_add(&mask).unwrap()).unwrap();
            mixed.push(shares.matmul(&of(&qkv.value)).unwrap().transpose(0, 1).unwrap());
        }
        Tensor::cat(&mixed, 0).unwrap().flatten_from(1).unwrap()
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
        tensor.to_vec2().unwrap()
    }

    #[test]
    fn texts_without_padding_are_attended_like_padded_ones() {
        let engine = TensorEngine::new(Device::Cpu, DType::F32);
        let device = ComputeDevice::Tensors(engine.clone());
        let (heads, size) = (3, 8);
        let shape = AttentionShape { heads, head_size: size };
        for starts in [&[0, 1][..], &[0, 7, 8, 41, 50, 52], &[0, 16, 32]] {
            let tokens = *starts.last().unwrap();
            let numbers = (0..tokens * 3 * heads * size).map(|at| ((at * at) as f32 * 0.37).sin());
            let dims = (tokens, 3 * heads * size);
            let qkv = Tensor::from_vec(numbers.collect::<Vec<_>>(), dims, &Device::Cpu).unwrap();
            let [rope, other] = [[1.0, 0.3, 0.1, 0.02], [1.0, 0.5, 0.2, 0.1]]
                .map(|inverse| RotaryEmbedding::new(&inverse, 64, 1.1, &device).unwrap());
            let patterns = [
                AttentionPattern { rope: None, reach: None, bias: None },
                AttentionPattern { rope: Some(&rope), reach: None, bias: None },
                AttentionPattern { rope: Some(&other), reach: Some(3), bias: None },
                AttentionPattern { rope: Some(&other), reach: Some(0), bias: None },
            ];
            let padded = BatchLayout::new(starts, shape, &patterns, &device).unwrap();
            let varlen = VarlenAttention::new(starts, shape, &patterns, &engine).unwrap();
            assert_eq!(varlen.starts.to_vec1::<u32>().unwrap().len(), starts.len());
            assert_eq!(varlen.longest, starts.windows(2).map(|text| text[1] - text[0]).max().unwrap());
            for (index, pattern) in patterns.iter().enumerate() {
                let parts = varlen.parts(&qkv, varlen.patterns[index].angles.as_ref()).unwrap();
                for part in [&parts.query, &parts.key, &parts.value] {
                    assert_eq!((part.dims(), part.stride()[2]), (&[tokens, heads, size][..], 1));
                }
                let one = rows(&attend(&parts, starts, pattern.reach));
                let other = rows(&padded.attention(&qkv, index).unwrap());
                for (a, b) in one.iter().flatten().zip(other.iter().flatten()) {
                    assert!((a - b).abs() < 1e-5, "{starts:?}, pattern {index}: {a} against {b}");
                }
            }
        }
    }
}
