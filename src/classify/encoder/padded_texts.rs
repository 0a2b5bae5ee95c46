//! Runs models that compute rectangles of tokens over padding-free batches: texts are padded at their ends, and the rows of
//! their tokens put back one after the other.
//!
//! Knows nothing of what is computed.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use crate::special_tokens::EncoderInput;

/// How many numbers the attention scores of texts that are computed together take at most, in one layer.
const MAX_SCORES: usize = 1 << 24;

/// Texts as the rows of a rectangle: (texts, longest).
pub(super) struct PaddedTexts {
    pub(super) ids: Tensor,
    /// 1 for each token, 0 for padding; none where there is no padding.
    pub(super) mask: Option<Tensor>,
    /// 1 for tokens of the second type; none where there are none.
    pub(super) types: Option<Tensor>,
    /// Where the tokens are among all places of the rectangle, row by row.
    places: Tensor,
}

/// How texts are put together.
#[derive(Clone, Copy)]
pub(super) struct PaddingLimits {
    /// Attention heads, which each have scores.
    pub(super) heads: usize,
    /// Whether several texts may be computed together; alone they need no padding.
    pub(super) together: bool,
}

/// Computes states (texts, longest, width) group by group, and returns those of the tokens: (tokens, width).
pub(super) fn in_padded_texts(
    input: &EncoderInput,
    limits: PaddingLimits,
    device: &Device,
    mut forward: impl FnMut(&PaddedTexts) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut states = Vec::new();
    for texts in groups(&input.starts, limits) {
        let padded = PaddedTexts::new(input, texts, device)?;
        let state = forward(&padded)?;
        let (count, longest, width) = state.dims3()?;
        let rows = state.reshape((count * longest, width))?;
        states.push(if padded.mask.is_some() { rows.index_select(&padded.places, 0)? } else { rows });
    }
    Tensor::cat(&states, 0)
}

/// Puts texts that follow each other together as far as their scores fit; a text that does not fit is alone.
fn groups(starts: &[usize], PaddingLimits { heads, together }: PaddingLimits) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut longest = 0;
    for (text, pair) in starts.windows(2).enumerate() {
        let length = pair[1] - pair[0];
        let most = longest.max(length);
        let fits = |group: &&mut Range<usize>| {
            together && (group.len() + 1).saturating_mul(heads * most * most) <= MAX_SCORES
        };
        if let Some(group) = groups.last_mut().filter(fits) {
            group.end = text + 1;
            longest = most;
        } else {
            groups.push(text..text + 1);
            longest = length;
        }
    }
    groups
}

impl PaddedTexts {
    fn new(input: &EncoderInput, texts: Range<usize>, device: &Device) -> Result<Self> {
        let spans: Vec<Range<usize>> = texts.map(|text| input.starts[text]..input.starts[text + 1]).collect();
        let longest = spans.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let shape = (spans.len(), longest);
        let size = spans.len() * longest;
        let (mut ids, mut mask, mut types) = (vec![0_u32; size], vec![0_i64; size], vec![0_u32; size]);
        let mut places = Vec::new();
        for (row, span) in spans.iter().enumerate() {
            let from = row * longest;
            ids[from..from + span.len()].copy_from_slice(&input.ids[span.clone()]);
            mask[from..from + span.len()].fill(1);
            places.extend((from..from + span.len()).map(|place| place as u32));
            for second in &input.second_type {
                let (start, end) = (second.start.max(span.start), second.end.min(span.end));
                if start < end {
                    types[from + start - span.start..from + end - span.start].fill(1);
                }
            }
        }
        let is_padded = places.len() < size;
        let has_types = !input.second_type.is_empty();
        Ok(Self {
            ids: Tensor::from_vec(ids, shape, device)?,
            mask: is_padded.then(|| Tensor::from_vec(mask, shape, device)).transpose()?,
            types: has_types.then(|| Tensor::from_vec(types, shape, device)).transpose()?,
            places: Tensor::new(places, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_together_as_far_as_their_scores_fit() {
        let limits = |together| PaddingLimits { heads: 1, together };
        assert_eq!(groups(&[0, 3, 5], limits(true)), vec![0..2; 1]);
        assert_eq!(groups(&[0, 3, 5], limits(false)), [0..1, 1..2]);
        // 2,048² and twice that fit; three times 4,096² do not.
        assert_eq!(groups(&[0, 2048, 4096, 8192, 8193], limits(true)), [0..2, 2..3, 3..4]);
        assert!(groups(&[0], limits(true)).is_empty());
    }

    #[test]
    fn the_rows_of_tokens_come_back_in_their_order() {
        let input = EncoderInput {
            ids: vec![5, 6, 7, 8, 9, 4],
            starts: vec![0, 3, 4, 6],
            second_type: std::iter::once(1..3).collect(),
            judged: Vec::new(),
        };
        let limits = PaddingLimits { heads: 1, together: true };
        let mut seen = Vec::new();
        let states = in_padded_texts(&input, limits, &Device::Cpu, |texts| {
            seen.push((
                texts.mask.as_ref().unwrap().to_vec2::<i64>()?,
                texts.types.as_ref().unwrap().to_vec2::<u32>()?,
            ));
            texts.ids.to_dtype(candle_core::DType::F32)?.unsqueeze(2)
        });
        let rows: Vec<f32> = states.unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(rows, [5.0, 6.0, 7.0, 8.0, 9.0, 4.0]);
        let mask = vec![vec![1, 1, 1], vec![1, 0, 0], vec![1, 1, 0]];
        assert_eq!(seen, [(mask, vec![vec![0, 1, 1], vec![0; 3], vec![0; 3]])]);
    }
}
