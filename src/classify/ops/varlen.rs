//! Attention over texts as they stand, one after the other, by FlashAttention-2 where it was built in.
//!
//! What depends on the texts alone, and the angles of their tokens, is made once for a batch. Knows nothing of layers.

use candle_core::{Result, Tensor, bail};
use candle_nn::rotary_emb::rope_thd;

use super::tensors::Rope as Angles;
use super::{Rope, Sight};
use crate::classify::device::Engine;

/// A batch without padding.
pub(super) struct Varlen {
    heads: usize,
    size: usize,
    /// Where each text starts, and where the last one ends.
    starts: Tensor,
    longest: usize,
    /// Which rows of a state's width are queries, then which are keys.
    pairs: Tensor,
    /// For each way in which layers see.
    views: Vec<View>,
}

struct View {
    /// For each query, then for each key.
    angles: Option<Angles>,
    reach: Option<usize>,
}

/// Queries, keys and values, each (tokens, heads, head width), of which only the last dimension need lie side by side.
type Parts = (Tensor, Tensor, Tensor);

impl Varlen {
    /// Lays out texts for layers that see in one of these ways.
    pub(super) fn new(
        starts: &[usize],
        (heads, size): (usize, usize),
        sights: &[Sight<'_>],
        engine: &Engine,
    ) -> Result<Self> {
        let tokens = starts.last().copied().unwrap_or(0);
        let texts = || starts.windows(2).map(|text| text[1] - text[0]);
        let upload = |numbers: Vec<u32>| {
            let count = numbers.len();
            Tensor::from_vec(numbers, count, &engine.device)
        };
        let once = texts().flat_map(|length| 0..length as u32);
        let places = upload(once.clone().chain(once).collect())?;
        let views = sights.iter().map(|sight| {
            let angles = match sight.rope {
                None => None,
                Some(Rope::Tensors(rope)) => Some(Angles {
                    cos: rope.cos.index_select(&places, 0)?,
                    sin: rope.sin.index_select(&places, 0)?,
                }),
                Some(Rope::Slices(_)) => bail!("the angles were tabulated for another place"),
            };
            Ok(View { angles, reach: sight.reach })
        });
        let pairs = (0..2).flat_map(|which| (0..tokens).map(move |token| (3 * token + which) as u32));
        Ok(Self {
            heads,
            size,
            starts: upload(starts.iter().map(|start| *start as u32).collect())?,
            longest: texts().max().unwrap_or(0),
            pairs: upload(pairs.collect())?,
            views: views.collect::<Result<_>>()?,
        })
    }

    /// Takes (tokens, 3 · width), returns (tokens, width).
    pub(super) fn attention(&self, qkv: &Tensor, way: usize) -> Result<Tensor> {
        let (tokens, columns) = qkv.dims2()?;
        let Some(view) = self.views.get(way) else { bail!("no view for the way {way}") };
        let parts = self.parts(qkv, view.angles.as_ref())?;
        let scale = (self.size as f32).powf(-0.5);
        self.attend(&parts, scale, view.reach)?.reshape((tokens, columns / 3))
    }

    /// Takes queries and keys apart from values, and turns them by their places.
    fn parts(&self, qkv: &Tensor, angles: Option<&Angles>) -> Result<Parts> {
        let tokens = qkv.dim(0)?;
        let (heads, size) = (self.heads, self.size);
        let split = qkv.reshape((tokens, 3, heads, size))?;
        let part = |which| split.narrow(1, which, 1)?.squeeze(1);
        let Some(angles) = angles else { return Ok((part(0)?, part(1)?, part(2)?)) };
        let pairs = qkv.reshape((3 * tokens, heads * size))?.index_select(&self.pairs, 0)?;
        let pairs = rope_thd(&pairs.reshape((1, 2 * tokens, heads, size))?, &angles.cos, &angles.sin)?;
        let pairs = pairs.squeeze(0)?;
        Ok((pairs.narrow(0, 0, tokens)?, pairs.narrow(0, tokens, tokens)?, part(2)?))
    }

    #[cfg(feature = "flash-attn")]
    fn attend(&self, (query, key, value): &Parts, scale: f32, reach: Option<usize>) -> Result<Tensor> {
        // A query at i sees the keys from i - left to i + right, both included.
        candle_flash_attn::flash_attn_varlen_windowed(
            query,
            key,
            value,
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
    fn attend(&self, _: &Parts, _: f32, _: Option<usize>) -> Result<Tensor> {
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
    use crate::classify::device::Place;
    use crate::classify::ops::Layout;

    /// What the kernel computes, text by text.
    fn attend((query, key, value): &Parts, starts: &[usize], reach: Option<usize>) -> Tensor {
        let size = query.dim(2).unwrap();
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
            let key = of(key).transpose(1, 2).unwrap();
            let scores = (of(query).matmul(&key).unwrap() * (size as f64).powf(-0.5)).unwrap();
            let shares = softmax_last_dim(&scores.broadcast_add(&mask).unwrap()).unwrap();
            mixed.push(shares.matmul(&of(value)).unwrap().transpose(0, 1).unwrap());
        }
        Tensor::cat(&mixed, 0).unwrap().flatten_from(1).unwrap()
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
        tensor.to_vec2().unwrap()
    }

    #[test]
    fn texts_as_they_stand_are_turned_and_apart_like_padded_ones() {
        let engine = Engine::new(Device::Cpu, DType::F32);
        let place = Place::Tensors(engine.clone());
        let (heads, size) = (3, 8);
        for starts in [&[0, 1][..], &[0, 7, 8, 41, 50, 52], &[0, 16, 32]] {
            let tokens = *starts.last().unwrap();
            let numbers = (0..tokens * 3 * heads * size).map(|at| ((at * at) as f32 * 0.37).sin());
            let shape = (tokens, 3 * heads * size);
            let qkv = Tensor::from_vec(numbers.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap();
            let [rope, other] = [[1.0, 0.3, 0.1, 0.02], [1.0, 0.5, 0.2, 0.1]]
                .map(|inverse| Rope::new(&inverse, 64, 1.1, &place).unwrap());
            let sights = [
                Sight { rope: None, reach: None },
                Sight { rope: Some(&rope), reach: None },
                Sight { rope: Some(&other), reach: Some(3) },
                Sight { rope: Some(&other), reach: Some(0) },
            ];
            let padded = Layout::new(starts, (heads, size), &sights, &place).unwrap();
            let varlen = Varlen::new(starts, (heads, size), &sights, &engine).unwrap();
            assert_eq!(varlen.starts.to_vec1::<u32>().unwrap().len(), starts.len());
            assert_eq!(varlen.longest, starts.windows(2).map(|text| text[1] - text[0]).max().unwrap());
            for (way, sight) in sights.iter().enumerate() {
                let parts = varlen.parts(&qkv, varlen.views[way].angles.as_ref()).unwrap();
                for part in [&parts.0, &parts.1, &parts.2] {
                    assert_eq!((part.dims(), part.stride()[2]), (&[tokens, heads, size][..], 1));
                }
                let one = rows(&attend(&parts, starts, sight.reach));
                let other = rows(&padded.attention(&qkv, way).unwrap());
                for (a, b) in one.iter().flatten().zip(other.iter().flatten()) {
                    assert!((a - b).abs() < 1e-5, "{starts:?}, way {way}: {a} against {b}");
                }
            }
        }
    }
}
