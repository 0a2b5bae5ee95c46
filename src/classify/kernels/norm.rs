//! What is done to whole rows between the products: residuals, layer normalisation and means.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::dispatch::dispatch;
use super::threads;

/// Lanes of a sum: one running sum cannot be vectorised.
const LANES: usize = 16;

/// Fewer elements than this are not worth a second thread.
const ALONE: usize = 1 << 15;

/// Layer normalisation of rows as long as `gain`.
#[derive(Debug, Clone)]
pub struct Norm {
    /// What each column is multiplied by once its row has mean 0 and deviation 1.
    pub gain: Vec<f32>,
    /// What is added to each column after that.
    pub shift: Option<Vec<f32>>,
    /// What is added to the variance, so that rows of equal numbers stay finite.
    pub epsilon: f32,
}

struct NormJob<'a> {
    norm: &'a Norm,
    rows: &'a mut [f32],
    residual: Option<&'a [f32]>,
}

impl Norm {
    /// Normalises each row in place.
    pub fn normalize(&self, rows: &mut [f32]) {
        let width = self.gain.len();
        if threads() > 1 && rows.len() > ALONE {
            let part = part(rows.len(), width);
            rows.par_chunks_mut(part).for_each(|rows| dispatch(NormJob { norm: self, rows, residual: None }));
        } else {
            dispatch(NormJob { norm: self, rows, residual: None });
        }
    }

    /// Adds the residual to each row and normalises the sum, in place.
    pub fn add_normalize(&self, rows: &mut [f32], residual: &[f32]) {
        let width = self.gain.len();
        if threads() > 1 && rows.len() > ALONE {
            let part = part(rows.len(), width);
            rows.par_chunks_mut(part).zip(residual.par_chunks(part)).for_each(|(rows, residual)| {
                dispatch(NormJob { norm: self, rows, residual: Some(residual) });
            });
        } else {
            dispatch(NormJob { norm: self, rows, residual: Some(residual) });
        }
    }
}

/// Returns how many elements one job takes: whole rows.
fn part(elements: usize, width: usize) -> usize {
    (elements / (4 * threads())).max(ALONE / 4).next_multiple_of(width)
}

impl WithSimd for NormJob<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.norm.gain.len();
        if width == 0 {
            return;
        }
        let mut residual = self.residual.map(|residual| residual.chunks_exact(width));
        for row in self.rows.chunks_exact_mut(width) {
            if let Some(other) = residual.as_mut().and_then(Iterator::next) {
                for (x, y) in row.iter_mut().zip(other) {
                    *x += y;
                }
            }
            normalize(self.norm, row);
        }
    }
}

#[inline(always)]
fn normalize(norm: &Norm, row: &mut [f32]) {
    let width = row.len() as f32;
    let mean = sum(row, 0.0) / width;
    let variance = sum_of_squares(row, mean) / width;
    let scale = 1.0 / (variance + norm.epsilon).sqrt();
    for (x, gain) in row.iter_mut().zip(&norm.gain) {
        *x = (*x - mean) * scale * gain;
    }
    if let Some(shift) = &norm.shift {
        for (x, shift) in row.iter_mut().zip(shift) {
            *x += shift;
        }
    }
}

#[inline(always)]
fn sum(row: &[f32], mut sum: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for x in lanes.iter().chain(rest) {
        sum += x;
    }
    sum
}

#[inline(always)]
fn sum_of_squares(row: &[f32], mean: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += (chunk[lane] - mean) * (chunk[lane] - mean);
        }
    }
    let mut sum = 0.0;
    for x in lanes {
        sum += x;
    }
    for x in rest {
        sum += (x - mean) * (x - mean);
    }
    sum
}

/// Writes the mean of each text's rows to `out`: (texts, width); a text without rows has a mean of zero.
pub fn means(rows: &[f32], starts: &[usize], width: usize, out: &mut [f32]) {
    for (text, mean) in starts.windows(2).zip(out.chunks_exact_mut(width)) {
        mean.fill(0.0);
        for row in rows[text[0] * width..text[1] * width].chunks_exact(width) {
            for (sum, x) in mean.iter_mut().zip(row) {
                *sum += x;
            }
        }
        let share = 1.0 / (text[1] - text[0]).max(1) as f32;
        for x in mean {
            *x *= share;
        }
    }
}
