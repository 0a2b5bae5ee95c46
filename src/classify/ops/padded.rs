//! Attention as tensor operations: texts of similar length padded to one another.
//!
//! What depends on the texts' lengths alone is made once for a batch: the order in which rows are gathered, and the
//! masks. Knows nothing of layers.

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb;

use super::AttentionShape;
use super::tensors::{Qkv, TensorRope};
use crate::device::TensorEngine;

/// Texts are padded to one another whose lengths differ by at most this share of the longest one.
const MAX_PADDING: f64 = 0.25;

/// Scores of more elements than this are computed a block of queries at a time.
const MAX_SCORES: usize = 1 << 26;

/// A batch in groups of texts of similar length.
pub(super) struct PaddedAttention {
    shape: AttentionShape,
    /// Which rows, of a head's width, each group takes: its queries, keys and values, each (texts, heads, positions).
    rows: Tensor,
    /// Which rows of the groups' results, one after the other, are each token's heads.
    token_rows: Tensor,
    groups: Vec<PaddedGroup>,
}

struct PaddedGroup {
    texts: usize,
    longest: usize,
    /// For each attention pattern.
    blocks: Vec<Vec<QueryBlock>>,
}

/// Queries whose scores are computed together.
struct QueryBlock {
    first: usize,
    queries: usize,
    /// The first key that one of them may see, and the one after the last.
    low: usize,
    high: usize,
    /// What to add to the scores (texts, heads, queries, keys): minus infinity where a query may not look.
    mask: Option<Tensor>,
}

impl PaddedAttention {
    /// Lays out texts for attention that reaches so many tokens to either side.
    pub(super) fn new(
        starts: &[usize],
        shape: AttentionShape,
        reaches: &[Option<usize>],
        engine: &TensorEngine,
    ) -> Result<Self> {
        let AttentionShape { heads, .. } = shape;
        let tokens = starts.last().copied().unwrap_or(0);
        let mut rows = Vec::with_capacity(3 * heads * tokens);
        let mut token_rows = vec![0u32; heads * tokens];
        let mut padded = 0;
        let mut groups = Vec::new();
        for texts in groups_by_length(starts) {
            let spans: Vec<(usize, usize)> =
                texts.iter().map(|text| (starts[*text], starts[text + 1] - starts[*text])).collect();
            let longest = spans.iter().map(|(_, length)| *length).max().unwrap_or(0);
            for which in 0..3 {
                for (start, length) in &spans {
                    for head in 0..heads {
                        let row = |at: usize| ((start + at.min(length - 1)) * 3 + which) * heads + head;
                        rows.extend((0..longest).map(|at| row(at) as u32));
                    }
                }
            }
            for (text, (start, length)) in spans.iter().enumerate() {
                for head in 0..heads {
                    let from = padded + (text * heads + head) * longest;
                    for at in 0..*length {
                        token_rows[(start + at) * heads + head] = (from + at) as u32;
                    }
                }
            }
            padded += spans.len() * heads * longest;
            let lengths: Vec<usize> = spans.iter().map(|(_, length)| *length).collect();
            groups.push(PaddedGroup::new(&lengths, longest, heads, reaches, engine)?);
        }
        Ok(Self {
            shape,
            rows: Tensor::from_vec(rows, 3 * padded, &engine.device)?,
            token_rows: Tensor::from_vec(token_rows, heads * tokens, &engine.device)?,
            groups,
        })
    }

    /// Takes (tokens, 3 · width), returns (tokens, width).
    pub(super) fn attention(
        &self,
        qkv: &Tensor,
        pattern: usize,
        rope: Option<&TensorRope>,
    ) -> Result<Tensor> {
        let (tokens, columns) = qkv.dims2()?;
        let AttentionShape { heads, head_size } = self.shape;
        let width = heads * head_size;
        if columns != 3 * width || tokens * heads != self.token_rows.elem_count() {
            bail!("queries, keys and values of ({tokens}, {columns}) for another batch");
        }
        let parts = qkv.reshape((tokens * 3 * heads, head_size))?.index_select(&self.rows, 0)?;
        let mut mixed = Vec::with_capacity(self.groups.len());
        let mut from = 0;
        for group in &self.groups {
            let count = group.texts * heads * group.longest;
            let parts = parts.narrow(0, from, 3 * count)?;
            mixed.push(group.attention(&parts, self.shape, pattern, rope)?);
            from += 3 * count;
        }
        Tensor::cat(&mixed, 0)?.index_select(&self.token_rows, 0)?.reshape((tokens, width))
    }
}

impl PaddedGroup {
    fn new(
        lengths: &[usize],
        longest: usize,
        heads: usize,
        reaches: &[Option<usize>],
        engine: &TensorEngine,
    ) -> Result<Self> {
        let most = (MAX_SCORES / (lengths.len() * heads * longest).max(1)).max(1);
        let blocks = reaches.iter().map(|reach| {
            let firsts = (0..longest).step_by(most);
            firsts.map(|first| {
                QueryBlock::new(lengths, longest, first..longest.min(first + most), *reach, engine)
            })
        });
        let blocks = blocks.map(Iterator::collect::<Result<_>>).collect::<Result<_>>()?;
        Ok(Self { texts: lengths.len(), longest, blocks })
    }

    /// Takes (3 · texts · heads · positions, head width), returns (texts · heads · positions, head width).
    fn attention(
        &self,
        parts: &Tensor,
        shape: AttentionShape,
        pattern: usize,
        rope: Option<&TensorRope>,
    ) -> Result<Tensor> {
        let AttentionShape { heads, head_size } = shape;
        let all = self.texts * heads;
        let count = all * self.longest;
        let mut pairs = parts.narrow(0, 0, 2 * count)?.reshape((1, 2 * all, self.longest, head_size))?;
        if let Some(rope) = rope {
            pairs = rotary_emb::rope(&pairs, &rope.cos, &rope.sin)?;
        }
        let pairs = pairs.squeeze(0)?;
        let query = (pairs.narrow(0, 0, all)? * (head_size as f64).powf(-0.5))?;
        let key = pairs.narrow(0, all, all)?;
        let value = parts.narrow(0, 2 * count, count)?.reshape((all, self.longest, head_size))?;
        let Some(blocks) = self.blocks.get(pattern) else { bail!("there is no attention pattern {pattern}") };
        let qkv = Qkv { query, key, value };
        let mixed = blocks.iter().map(|block| block.attention(&qkv, self.texts));
        Tensor::cat(&mixed.collect::<Result<Vec<_>>>()?, 1)?.reshape((count, head_size))
    }
}

impl QueryBlock {
    fn new(
        lengths: &[usize],
        longest: usize,
        queries: std::ops::Range<usize>,
        reach: Option<usize>,
        engine: &TensorEngine,
    ) -> Result<Self> {
        let reach = reach.unwrap_or(longest);
        let (low, high) =
            (queries.start.saturating_sub(reach), longest.min(queries.end.saturating_add(reach)));
        let ends =
            lengths.iter().any(|length| *length < high).then(|| ends(lengths, low..high, &engine.device));
        let is_local = (queries.end - 1 - low).max(high - 1 - queries.start) > reach;
        let near = is_local.then(|| near(queries.clone(), low..high, reach, &engine.device));
        let mask = match (ends.transpose()?, near.transpose()?) {
            (Some(ends), Some(near)) => Some(ends.broadcast_add(&near)?),
            (ends, near) => ends.or(near),
        };
        let mask = mask.map(|mask| mask.to_dtype(engine.dtype)).transpose()?;
        Ok(Self { first: queries.start, queries: queries.len(), low, high, mask })
    }

    /// Takes (texts · heads, positions, head width) each, returns as much of the queries' positions as it has.
    fn attention(&self, qkv: &Qkv, texts: usize) -> Result<Tensor> {
        let keys = self.high - self.low;
        let query = qkv.query.narrow(1, self.first, self.queries)?;
        let key = qkv.key.narrow(1, self.low, keys)?.transpose(1, 2)?;
        let mut scores = query.matmul(&key)?;
        if let Some(mask) = &self.mask {
            let heads = scores.dim(0)? / texts;
            let shape = (texts, heads, self.queries, keys);
            scores = scores.reshape(shape)?.broadcast_add(mask)?.reshape(((), self.queries, keys))?;
        }
        softmax_last_dim(&scores)?.matmul(&qkv.value.narrow(1, self.low, keys)?)
    }
}

/// Hides the keys behind each text's end: (texts, 1, 1, keys).
fn ends(lengths: &[usize], keys: std::ops::Range<usize>, device: &Device) -> Result<Tensor> {
    let count = keys.len();
    let flat = lengths.iter().flat_map(|length| keys.clone().map(move |key| hidden(key >= *length)));
    Tensor::from_vec(flat.collect::<Vec<_>>(), (lengths.len(), 1, 1, count), device)
}

/// Hides the keys that are further away than `reach`: (1, 1, queries, keys).
fn near(
    queries: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
    reach: usize,
    device: &Device,
) -> Result<Tensor> {
    let shape = (1, 1, queries.len(), keys.len());
    let flat = queries.flat_map(|query| keys.clone().map(move |key| hidden(key.abs_diff(query) > reach)));
    Tensor::from_vec(flat.collect::<Vec<_>>(), shape, device)
}

fn hidden(is_hidden: bool) -> f32 {
    if is_hidden { f32::NEG_INFINITY } else { 0.0 }
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
            Some(group) if length(text) as f64 >= length(group[0]) as f64 * (1.0 - MAX_PADDING) => {
                group.push(text);
            }
            _ => groups.push(vec![text]),
        }
    }
    groups
}
