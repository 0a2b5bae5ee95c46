//! Attention whose scores depend on how far apart two tokens are, as MPNet's and T5's do: by tensor operations, one text
//! after the other.
//!
//! Knows nothing of checkpoints or tensors' names.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::{AttentionShape, Matrix};
use crate::device::ComputeDevice;

/// Farther apart than this all tokens have one bucket.
const MAX_DISTANCE: f32 = 128.0;

/// What is added to the scores of a head, by buckets of distances: (buckets, heads).
pub(crate) struct DistanceBias(Tensor);

impl DistanceBias {
    /// Rows of the table: as many as `transformers` computes, whatever a configuration says.
    pub(crate) const BUCKETS: usize = 32;

    pub(crate) fn new(table: Matrix, device: &ComputeDevice) -> Result<Self> {
        let dims = table.dims();
        let table = Tensor::from_vec(table.into_f32(), dims, &device.candle())?;
        Ok(Self(table.to_dtype(device.dtype())?))
    }

    /// Returns what is added to the scores of a text: (heads, tokens, tokens).
    fn of_text(&self, tokens: usize) -> Result<Tensor> {
        let heads = self.0.dim(1)?;
        let pairs = (0..tokens).flat_map(|from| (0..tokens).map(move |to| bucket(from, to)));
        let rows = Tensor::from_vec(pairs.collect::<Vec<_>>(), tokens * tokens, self.0.device())?;
        self.0.index_select(&rows, 0)?.reshape((tokens, tokens, heads))?.permute((2, 0, 1))?.contiguous()
    }

    /// Self-attention of each text over itself: (tokens, 3 · width) to (tokens, width).
    pub(super) fn attention(&self, qkv: &Tensor, starts: &[usize], shape: AttentionShape) -> Result<Tensor> {
        let AttentionShape { heads, head_size } = shape;
        let scale = 1.0 / (head_size as f64).sqrt();
        let of_text = |text: &[usize]| {
            let tokens = text[1] - text[0];
            let parts = qkv.narrow(0, text[0], tokens)?.reshape((tokens, 3, heads, head_size))?;
            let parts = parts.permute((1, 2, 0, 3))?.contiguous()?;
            let (query, key, value) = (parts.get(0)?, parts.get(1)?, parts.get(2)?);
            let scores = ((query.matmul(&key.t()?)? * scale)? + self.of_text(tokens)?)?;
            let weights = softmax_last_dim(&scores.to_dtype(DType::F32)?)?.to_dtype(qkv.dtype())?;
            weights.matmul(&value)?.transpose(0, 1)?.reshape((tokens, heads * head_size))
        };
        Tensor::cat(&starts.windows(2).map(of_text).collect::<Result<Vec<_>>>()?, 0)
    }
}

/// Returns the bucket of two tokens' distance: half of the buckets for those that come later; near distances have one each,
/// the others share buckets that grow with the logarithm (Raffel et al., 2020, as `transformers` computes it for MPNet).
fn bucket(from: usize, to: usize) -> u32 {
    let half = DistanceBias::BUCKETS / 2;
    let exact = half / 2;
    let distance = from.abs_diff(to);
    let within = if distance < exact {
        distance
    } else {
        let beyond = (distance as f32 / exact as f32).ln() / (MAX_DISTANCE / exact as f32).ln();
        (exact + (beyond * (half - exact) as f32) as usize).min(half - 1)
    };
    (if to > from { half + within } else { within }) as u32
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn near_distances_have_a_bucket_each_and_far_ones_share() {
        let to = |to| bucket(200, to);
        assert_eq!([to(200), to(199), to(193), to(192), to(190), to(72), to(0)], [0, 1, 7, 8, 8, 15, 15]);
        assert_eq!([to(201), to(207), to(208), to(212), to(400)], [17, 23, 24, 25, 31]);
    }
}
