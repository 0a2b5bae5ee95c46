//! Products of int8 weights with rows that are rounded to eight bits themselves, where the processor multiplies and adds
//! four such pairs at once (AVX-512 VNNI).
//!
//! A row is rounded on a scale of its own, `x ≈ (q - zero) · step` with `q` from 0 to 255, so that a sum over its inputs is
//! `(Σ q · w - zero · Σ w) · step`, whole numbers but for the last factor: the dynamic quantisation of ONNX Runtime.
//! Holds the project's only unsafe code: two calls of functions that are compiled for features of the processor, each
//! allowed by [`Vnni`], which there is only where the features were found.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_cvtusepi32_epi8,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_max_epi32, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_mullo_epi32, _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_sub_epi32,
};

use pulp::x86::V4;
use pulp::{Simd, bytemuck};

use super::tile::{self, Activation, Tile, WIDE};

/// Numbers of 32 bits in a vector.
const LANES: usize = 16;

/// Columns of a panel.
pub(super) const PANEL: usize = WIDE * LANES;

/// Inputs that one instruction multiplies.
const QUAD: usize = 4;

/// The rows of a tile: as many as there are registers for their sums.
const TALL: usize = 12;

/// Proof that the processor has what the products are compiled for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vnni(V4);

/// Four inputs' weights for the columns of a panel; aligned, so that no vector straddles two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct QuadWeights([[i8; QUAD * LANES]; WIDE]);

/// A matrix of int8 weights, laid out for products with rounded rows.
#[derive(Debug)]
pub(super) struct Int8Panels {
    vnni: Vnni,
    /// Of each panel one after the other.
    weights: Vec<QuadWeights>,
    /// Quads of a panel.
    quads: usize,
    /// The sum of each output's weights, filled up to whole panels.
    sums: Vec<i32>,
}

/// Rows in eight bits.
#[derive(Debug)]
pub(super) struct RoundedRows {
    /// As many quads as the weights have, for each row.
    bytes: Vec<[u8; QUAD]>,
    /// What one step of a row's numbers stands for.
    steps: Vec<f32>,
    /// The number of a row that stands for 0.
    zeros: Vec<i32>,
}

/// Part of a product: the rows from `top` on that `out` has, times the panels that it has room for, from `first` on.
pub(super) struct Int8Job<'a, 'b> {
    pub(super) rows: &'a RoundedRows,
    pub(super) top: usize,
    pub(super) first: usize,
    /// Of each output.
    pub(super) scale: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) activation: Activation,
    pub(super) out: &'a mut [&'b mut [f32]],
}

impl Vnni {
    fn find() -> Option<Self> {
        V4::try_new().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
    }
}

impl Int8Panels {
    /// Lays out weights (outputs, inputs), where the processor has use for it.
    pub(super) fn new(data: &[i8], outputs: usize, inputs: usize) -> Option<Self> {
        let vnni = Vnni::find()?;
        let quads = inputs.div_ceil(QUAD);
        let panels = outputs.div_ceil(PANEL);
        let mut weights = vec![QuadWeights([[0; QUAD * LANES]; WIDE]); panels * quads];
        let mut sums = vec![0; panels * PANEL];
        for (output, row) in data.chunks_exact(inputs.max(1)).take(outputs).enumerate() {
            let (panel, column) = (output / PANEL, output % PANEL);
            let (vector, lane) = (column / LANES, column % LANES);
            for (quad, four) in row.chunks(QUAD).enumerate() {
                let into = &mut weights[panel * quads + quad].0[vector][lane * QUAD..];
                into[..four.len()].copy_from_slice(four);
            }
            sums[output] = row.iter().map(|weight| i32::from(*weight)).sum();
        }
        Some(Self { vnni, weights, quads, sums })
    }

    /// Rounds rows of `inputs` numbers.
    pub(super) fn round(&self, rows: &[f32], inputs: usize) -> RoundedRows {
        let count = rows.len() / inputs.max(1);
        let mut rounded = RoundedRows {
            bytes: vec![[0; QUAD]; count * self.quads],
            steps: Vec::with_capacity(count),
            zeros: Vec::with_capacity(count),
        };
        #[expect(unsafe_code, reason = "only a processor with the features may run it")]
        // SAFETY: `self.vnni` is only made where the features that `round` is compiled for were found.
        unsafe {
            round(rows, inputs, self.quads, &mut rounded);
        }
        rounded
    }

    /// Writes `then(rows · weightsᵀ + bias)`.
    pub(super) fn multiply(&self, job: Int8Job<'_, '_>) {
        #[expect(unsafe_code, reason = "only a processor with the features may run it")]
        // SAFETY: `self.vnni` is only made where the features that `multiply` is compiled for were found.
        unsafe {
            multiply(self, job);
        }
    }

    fn panel(&self, at: usize) -> &[QuadWeights] {
        &self.weights[at * self.quads..][..self.quads]
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,fma")]
fn round(rows: &[f32], inputs: usize, quads: usize, into: &mut RoundedRows) {
    let RoundedRows { bytes, steps, zeros } = into;
    for (row, bytes) in rows.chunks_exact(inputs).zip(bytes.chunks_exact_mut(quads)) {
        let (vectors, rest) = row.as_chunks::<LANES>();
        // 0 has a number of its own in every row.
        let (mut least, mut most) = (_mm512_set1_ps(0.0), _mm512_set1_ps(0.0));
        for vector in vectors {
            let x: __m512 = bytemuck::cast(*vector);
            least = _mm512_min_ps(least, x);
            most = _mm512_max_ps(most, x);
        }
        let least = rest.iter().copied().fold(_mm512_reduce_min_ps(least), f32::min);
        let most = rest.iter().copied().fold(_mm512_reduce_max_ps(most), f32::max);
        let step = ((most - least) / 255.0).max(f32::MIN_POSITIVE);
        let zero = (-least / step).round_ties_even() as i32;
        let bytes = bytes.as_flattened_mut();
        let (whole, tail) = bytes.split_at_mut(vectors.len() * LANES);
        let (scale, shift) = (_mm512_set1_ps(1.0 / step), _mm512_set1_epi32(zero));
        for (vector, into) in vectors.iter().zip(whole.as_chunks_mut::<LANES>().0) {
            let x = _mm512_cvtps_epi32(_mm512_mul_ps(bytemuck::cast(*vector), scale));
            let x = _mm512_max_epi32(_mm512_add_epi32(x, shift), _mm512_setzero_si512());
            *into = bytemuck::cast(_mm512_cvtusepi32_epi8(x));
        }
        for (x, into) in rest.iter().zip(tail) {
            *into = ((x / step).round_ties_even() as i32 + zero).clamp(0, 255) as u8;
        }
        steps.push(step);
        zeros.push(zero);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,fma")]
fn multiply(panels: &Int8Panels, mut job: Int8Job<'_, '_>) {
    let width = job.out.first().map_or(0, |out| out.len());
    for column in (0..width).step_by(PANEL) {
        let mut row = 0;
        while row < job.out.len() {
            row += tiles(panels, &mut job, row, column);
        }
    }
}

/// Computes the tile of as many rows as there are registers for; returns how many.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,fma")]
fn tiles(panels: &Int8Panels, job: &mut Int8Job<'_, '_>, row: usize, column: usize) -> usize {
    let left = job.out.len() - row;
    match left {
        1 => tile::<1>(panels, job, row, column),
        2 => tile::<2>(panels, job, row, column),
        3 => tile::<3>(panels, job, row, column),
        4 | 5 => tile::<4>(panels, job, row, column),
        6 | 7 => tile::<6>(panels, job, row, column),
        8..TALL => tile::<8>(panels, job, row, column),
        _ => tile::<TALL>(panels, job, row, column),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,fma")]
fn tile<const R: usize>(panels: &Int8Panels, job: &mut Int8Job<'_, '_>, row: usize, column: usize) -> usize {
    let weights = panels.panel(job.first + column / PANEL);
    let mut rows = [[].as_slice(); R];
    for r in 0..R {
        rows[r] = &job.rows.bytes[(job.top + row + r) * panels.quads..][..weights.len()];
    }
    let mut sums = [[_mm512_setzero_si512(); WIDE]; R];
    for (quad, QuadWeights(columns)) in weights.iter().enumerate() {
        let columns: [__m512i; WIDE] = columns.map(bytemuck::cast);
        for r in 0..R {
            let x = _mm512_set1_epi32(i32::from_le_bytes(rows[r][quad]));
            for v in 0..WIDE {
                sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], x, columns[v]);
            }
        }
    }
    let simd = panels.vnni.0;
    let from = job.first * PANEL + column;
    let mut found: Tile<V4, R, WIDE> = [[simd.splat_f32s(0.0); WIDE]; R];
    for v in 0..WIDE {
        let at = from + v * LANES..from + (v + 1) * LANES;
        let weights: __m512i = bytemuck::cast(lanes(&panels.sums[at.clone()]));
        let (scale, bias) = (lanes(&job.scale[at.clone()]), lanes(&job.bias[at]));
        for r in 0..R {
            let zero = _mm512_set1_epi32(job.rows.zeros[job.top + row + r]);
            let step = _mm512_set1_ps(job.rows.steps[job.top + row + r]);
            let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[r][v], _mm512_mullo_epi32(zero, weights)));
            let scale = _mm512_mul_ps(step, bytemuck::cast(scale));
            found[r][v] = bytemuck::cast(_mm512_fmadd_ps(sum, scale, bytemuck::cast(bias)));
        }
    }
    tile::apply(simd, &mut found, job.activation);
    for r in 0..R {
        for v in 0..WIDE {
            tile::store(simd, &mut job.out[row + r][column..], v, found[r][v]);
        }
    }
    R
}

/// One vector's numbers.
fn lanes<T: Copy>(from: &[T]) -> [T; LANES] {
    *from.first_chunk().expect("scales, biases and sums are filled up to whole panels")
}
