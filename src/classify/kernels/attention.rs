//! Self-attention over a padding-free batch: each text and head by itself, a block of queries against a block of keys.
//!
//! No more than one block of scores is ever held: the running maximum and sum of each query are corrected as blocks
//! go by, so that memory and cache do not depend on how long a text is.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::aligned::AlignedBuffer;
use super::dispatch::{dispatch, is_tall};
use super::rope::Rope;
use super::threads;
use super::tile::{self, Tile, WIDE, load, store};

/// Queries of a block: whole tiles of six and of twelve rows.
const QUERIES: usize = 48;

/// Keys of a block: whole panels, however wide the vectors are.
const KEYS: usize = 256;

/// The score of a key that a query may not see; finite, so that differences of two are numbers.
const MASKED: f32 = -1e30;

/// The input of [`attend`].
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Rows of queries, keys and values side by side: (tokens, 3 · width).
    pub qkv: &'a [f32],
    /// Where each text's rows begin, and where the last one's end.
    pub starts: &'a [usize],
    /// How many heads there are.
    pub heads: usize,
    /// Columns of a head.
    pub size: usize,
    /// Rotates queries and keys by their position within the text; none where the model has no rotary embedding.
    pub rope: Option<&'a Rope>,
    /// How many tokens away, either side, a token may look; all of the text when left out.
    pub reach: Option<usize>,
}

/// One head of one text.
struct AttentionHead<'a, 'b> {
    attention: Attention<'a>,
    tokens: Range<usize>,
    at: usize,
    /// The head's columns of the text's rows.
    out: Vec<&'b mut [f32]>,
}

/// Buffers that one head after the other uses.
#[derive(Default)]
struct Scratch {
    /// Panels of keys: (panel, column of the head, key of the panel).
    keys: AlignedBuffer,
    /// Panels of values: (panel, key, column of the panel).
    values: AlignedBuffer,
    queries: AlignedBuffer,
    scores: AlignedBuffer,
    mixed: AlignedBuffer,
}

struct AttentionJob<'a, 'b, 'c> {
    head: AttentionHead<'a, 'b>,
    scratch: &'c mut Scratch,
}

/// Writes each head's mix of values to `out`: (tokens, width).
///
/// Rows beyond the last start are left as they are.
pub fn attend(attention: Attention<'_>, out: &mut [f32]) {
    let width = attention.heads * attention.size;
    if width == 0 {
        return;
    }
    let mut rows = out.chunks_exact_mut(width);
    let mut jobs = Vec::with_capacity(attention.starts.len() * attention.heads);
    for text in attention.starts.windows(2) {
        let tokens = text[0]..text[1];
        let mut heads: Vec<Vec<&mut [f32]>> =
            (0..attention.heads).map(|_| Vec::with_capacity(tokens.len())).collect();
        for row in rows.by_ref().take(tokens.len()) {
            for (head, piece) in heads.iter_mut().zip(row.chunks_exact_mut(attention.size)) {
                head.push(piece);
            }
        }
        for (at, out) in heads.into_iter().enumerate() {
            jobs.push(AttentionHead { attention, tokens: tokens.clone(), at, out });
        }
    }
    if threads() > 1 {
        jobs.into_par_iter().for_each_init(Scratch::default, |scratch, head| {
            dispatch(AttentionJob { head, scratch });
        });
    } else {
        let mut scratch = Scratch::default();
        for head in jobs {
            dispatch(AttentionJob { head, scratch: &mut scratch });
        }
    }
}

impl AttentionHead<'_, '_> {
    /// Returns the head's columns of token `token`'s query (0), key (1) or value (2).
    #[inline(always)]
    fn part(&self, token: usize, which: usize) -> &[f32] {
        let Attention { qkv, heads, size, .. } = self.attention;
        &qkv[((self.tokens.start + token) * 3 + which) * heads * size + self.at * size..][..size]
    }

    /// Writes a query or key to `into`, times `scale` and rotated by its position.
    #[inline(always)]
    fn rotated(&self, token: usize, which: usize, scale: f32, into: &mut [f32]) {
        for (to, x) in into.iter_mut().zip(self.part(token, which)) {
            *to = x * scale;
        }
        if let Some(rope) = self.attention.rope {
            rope.turn(token, into);
        }
    }

    /// Returns which keys the queries may look at, from a whole panel on.
    fn seen(&self, queries: &Range<usize>, panel: usize) -> Range<usize> {
        match self.attention.reach {
            None => 0..self.tokens.len(),
            Some(reach) => {
                let first = queries.start.saturating_sub(reach) / panel * panel;
                first..queries.end.saturating_add(reach).min(self.tokens.len())
            }
        }
    }
}

impl WithSimd for AttentionJob<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (tokens, panel) = (self.head.tokens.len(), WIDE * S::F32_LANES);
        self.pack_keys(panel);
        self.pack_values(panel);
        let mut first = 0;
        while first < tokens {
            let queries = first..(first + QUERIES).min(tokens);
            self.block(simd, queries);
            first += QUERIES;
        }
    }
}

impl AttentionJob<'_, '_, '_> {
    #[inline(always)]
    fn pack_keys(&mut self, panel: usize) {
        let (tokens, size) = (self.head.tokens.len(), self.head.attention.size);
        let Scratch { keys, queries, .. } = self.scratch;
        keys.resize(tokens.next_multiple_of(panel) * size);
        queries.resize(size);
        let (keys, row) = (keys.get_mut(), queries.get_mut());
        // The last panel's padding must be numbers: 0 · NaN would spread.
        keys[tokens / panel * panel * size..].fill(0.0);
        for token in 0..tokens {
            self.head.rotated(token, 1, 1.0, row);
            let at = token / panel * panel * size + token % panel;
            for (to, x) in keys[at..].iter_mut().step_by(panel).zip(row.iter()) {
                *to = *x;
            }
        }
    }

    #[inline(always)]
    fn pack_values(&mut self, panel: usize) {
        let (tokens, size) = (self.head.tokens.len(), self.head.attention.size);
        self.scratch.values.resize(size.next_multiple_of(panel) * tokens);
        let values = self.scratch.values.get_mut();
        for token in 0..tokens {
            for (at, piece) in self.head.part(token, 2).chunks(panel).enumerate() {
                let to = &mut values[(at * tokens + token) * panel..][..panel];
                to[..piece.len()].copy_from_slice(piece);
                to[piece.len()..].fill(0.0);
            }
        }
    }

    /// Computes the head's mix of values for a block of queries.
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, queries: Range<usize>) {
        let size = self.head.attention.size;
        let panel = WIDE * S::F32_LANES;
        let padded = size.next_multiple_of(panel);
        // The softmax is computed by powers of two.
        let scale = std::f32::consts::LOG2_E / (size as f32).sqrt();
        self.scratch.queries.resize(queries.len() * size);
        self.scratch.mixed.resize(queries.len() * padded);
        self.scratch.mixed.get_mut().fill(0.0);
        for (token, row) in queries.clone().zip(self.scratch.queries.get_mut().chunks_exact_mut(size)) {
            self.head.rotated(token, 0, scale, row);
        }
        let mut maxima = [MASKED; QUERIES];
        let mut sums = [0.0; QUERIES];
        let seen = self.head.seen(&queries, panel);
        let mut first = seen.start;
        while first < seen.end {
            let keys = first..(first + KEYS).min(seen.end);
            self.score(simd, &queries, &keys);
            self.softmax_step(simd, queries.len(), keys.len(), &mut maxima, &mut sums);
            self.mix(simd, queries.len(), &keys);
            first += KEYS;
        }
        let rows = self.scratch.mixed.get().chunks_exact(padded);
        for ((row, out), sum) in rows.zip(&mut self.head.out[queries]).zip(sums) {
            let share = 1.0 / sum;
            for (to, x) in out.iter_mut().zip(row) {
                *to = x * share;
            }
        }
    }

    /// Fills the block of scores: (queries, keys up to a whole panel).
    #[inline(always)]
    fn score<S: Simd>(&mut self, simd: S, queries: &Range<usize>, keys: &Range<usize>) {
        let size = self.head.attention.size;
        let panel = WIDE * S::F32_LANES;
        let stride = keys.len().next_multiple_of(panel);
        self.scratch.scores.resize(queries.len() * stride);
        let rows = self.scratch.queries.get();
        let scores = self.scratch.scores.get_mut();
        for column in (0..stride).step_by(panel) {
            let packed = &self.scratch.keys.get()[(keys.start + column) * size..][..panel * size];
            let packed = S::as_simd_f32s(packed).0.as_chunks::<WIDE>().0;
            let mut row = 0;
            while row < queries.len() {
                let into = &mut scores[row * stride + column..];
                row += product(simd, &rows[row * size..], size, size, packed, into, stride, false);
            }
        }
        for (query, row) in queries.clone().zip(scores.chunks_exact_mut(stride)) {
            row[keys.len()..].fill(MASKED);
            if let Some(reach) = self.head.attention.reach {
                let before = query.saturating_sub(reach).saturating_sub(keys.start).min(keys.len());
                let after = query.saturating_add(reach).saturating_add(1).saturating_sub(keys.start);
                row[..before].fill(MASKED);
                row[after.min(keys.len())..].fill(MASKED);
            }
        }
    }

    /// Replaces scores by powers of their difference to the largest so far, and corrects the earlier sums (online softmax).
    #[inline(always)]
    fn softmax_step<S: Simd>(
        &mut self,
        simd: S,
        queries: usize,
        keys: usize,
        maxima: &mut [f32; QUERIES],
        sums: &mut [f32; QUERIES],
    ) {
        let stride = keys.next_multiple_of(WIDE * S::F32_LANES);
        let padded = self.scratch.mixed.get().len() / queries;
        let scores = self.scratch.scores.get_mut().chunks_exact_mut(stride);
        let mixed = self.scratch.mixed.get_mut().chunks_exact_mut(padded);
        for (query, (row, mixed)) in scores.zip(mixed).enumerate() {
            let row = S::as_mut_simd_f32s(row).0.as_chunks_mut::<WIDE>().0;
            let mut largest = [simd.splat_f32s(maxima[query]); WIDE];
            for x in &*row {
                for v in 0..WIDE {
                    largest[v] = simd.max_f32s(x[v], largest[v]);
                }
            }
            let largest = simd.reduce_max_f32s(simd.max_f32s(largest[0], largest[1]));
            let minus = simd.splat_f32s(-largest);
            let mut sum = [simd.splat_f32s(0.0); WIDE];
            for x in &mut *row {
                for v in 0..WIDE {
                    x[v] = tile::exp2_down(simd, simd.add_f32s(x[v], minus));
                    sum[v] = simd.add_f32s(sum[v], x[v]);
                }
            }
            let sum = simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1]));
            if sums[query] == 0.0 {
                sums[query] = sum;
            } else if largest > maxima[query] {
                let correction = (maxima[query] - largest).exp2();
                sums[query] = sums[query] * correction + sum;
                for x in mixed {
                    *x *= correction;
                }
            } else {
                sums[query] += sum;
            }
            maxima[query] = largest;
        }
    }

    /// Adds the values, each by its share, to the mix.
    #[inline(always)]
    fn mix<S: Simd>(&mut self, simd: S, queries: usize, keys: &Range<usize>) {
        let panel = WIDE * S::F32_LANES;
        let stride = keys.len().next_multiple_of(panel);
        let tokens = self.head.tokens.len();
        let mixed = self.scratch.mixed.get_mut();
        let padded = mixed.len() / queries;
        let scores = self.scratch.scores.get();
        for column in (0..padded).step_by(panel) {
            let from = (column / panel * tokens + keys.start) * panel;
            let packed = &self.scratch.values.get()[from..][..keys.len() * panel];
            let packed = S::as_simd_f32s(packed).0.as_chunks::<WIDE>().0;
            let mut row = 0;
            while row < queries {
                let into = &mut mixed[row * padded + column..];
                row += product(simd, &scores[row * stride..], stride, keys.len(), packed, into, padded, true);
            }
        }
    }
}

/// Writes (or adds) the product of as many rows as a tile has, and as there are, to `into`; returns how many.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a call of the innermost loop")]
fn product<S: Simd>(
    simd: S,
    rows: &[f32],
    stride: usize,
    depth: usize,
    packed: &[[S::f32s; WIDE]],
    into: &mut [f32],
    into_stride: usize,
    add: bool,
) -> usize {
    let left = rows.len().div_ceil(stride);
    if is_tall::<S>() && left >= 12 {
        sums::<S, 12>(simd, rows, stride, depth, packed, into, into_stride, add);
        return 12;
    }
    match left {
        1 => sums::<S, 1>(simd, rows, stride, depth, packed, into, into_stride, add),
        2 => sums::<S, 2>(simd, rows, stride, depth, packed, into, into_stride, add),
        3 => sums::<S, 3>(simd, rows, stride, depth, packed, into, into_stride, add),
        4 => sums::<S, 4>(simd, rows, stride, depth, packed, into, into_stride, add),
        5 => sums::<S, 5>(simd, rows, stride, depth, packed, into, into_stride, add),
        _ => sums::<S, 6>(simd, rows, stride, depth, packed, into, into_stride, add),
    }
    left.min(6)
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a call of the innermost loop")]
fn sums<S: Simd, const R: usize>(
    simd: S,
    rows: &[f32],
    stride: usize,
    depth: usize,
    packed: &[[S::f32s; WIDE]],
    into: &mut [f32],
    into_stride: usize,
    add: bool,
) {
    let mut sums: Tile<S, R, WIDE> = [[simd.splat_f32s(0.0); WIDE]; R];
    let mut each = [[].as_slice(); R];
    for r in 0..R {
        each[r] = &rows[r * stride..][..depth];
        if add {
            for v in 0..WIDE {
                sums[r][v] = load(simd, &into[r * into_stride..], v);
            }
        }
    }
    sums = tile::multiply(simd, sums, each, packed);
    for r in 0..R {
        for v in 0..WIDE {
            store(simd, &mut into[r * into_stride..], v, sums[r][v]);
        }
    }
}
