//! Gated units: one half of a row, activated, times the other half.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::dispatch::dispatch;
use super::threads;
use super::tile::{self, Activation, load, store};

/// Rows one job takes.
const ROWS: usize = 16;

struct GateJob<'a> {
    rows: &'a [f32],
    out: &'a mut [f32],
    width: usize,
    activation: Activation,
}

/// Writes `then(left) · right` of each row's halves to `out`: (rows, 2 · width) to (rows, width).
pub fn gate(rows: &[f32], width: usize, activation: Activation, out: &mut [f32]) {
    if width == 0 {
        return;
    }
    if threads() > 1 && out.len() > ROWS * width {
        rows.par_chunks(2 * ROWS * width)
            .zip(out.par_chunks_mut(ROWS * width))
            .for_each(|(rows, out)| dispatch(GateJob { rows, out, width, activation }));
    } else {
        dispatch(GateJob { rows, out, width, activation });
    }
}

impl WithSimd for GateJob<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.rows.chunks_exact(2 * self.width);
        for (row, out) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            let (left, right) = row.split_at(self.width);
            for v in 0..self.width.div_ceil(S::F32_LANES) {
                let mut one = [[load(simd, left, v)]];
                tile::apply(simd, &mut one, self.activation);
                store(simd, out, v, simd.mul_f32s(one[0][0], load(simd, right, v)));
            }
        }
    }
}
