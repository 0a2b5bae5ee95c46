//! Element-wise steps between the matrix products, fused and in place, over contiguous f32 on the CPU.
//!
//! Knows nothing of layers, tensors' names or labels. Every loop is written so that the compiler vectorises
//! it: no library calls, no branches inside.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result};

/// Adds a bias (width) to every row of (rows, width).
pub(super) struct AddBias;

/// Adds a bias (width) to every row of (rows, width) and applies GELU.
pub(super) struct BiasGelu;

/// Turns each row of `width` scores, times `scale`, into probabilities.
pub(super) struct Softmax {
    pub(super) width: usize,
    pub(super) scale: f32,
}

/// Replaces `dst` (rows, width) by `LayerNorm(dst + bias + residual)`.
///
/// The third tensor holds bias, gain and shift, each `width` long, one after the other.
pub(super) struct AddNorm {
    pub(super) epsilon: f32,
}

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<()> {
        let bias = values(bias, bias_l)?;
        for row in values_mut(dst, dst_l)?.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
        Ok(())
    }
}

impl InplaceOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<()> {
        let bias = values(bias, bias_l)?;
        for row in values_mut(dst, dst_l)?.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x = gelu(*x + b);
            }
        }
        Ok(())
    }
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, dst: &mut CpuStorage, dst_l: &Layout) -> Result<()> {
        for row in values_mut(dst, dst_l)?.chunks_exact_mut(self.width) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for x in row.iter_mut() {
                *x = exp((*x - max) * self.scale);
            }
            let share = 1.0 / sum(row);
            for x in row.iter_mut() {
                *x *= share;
            }
        }
        Ok(())
    }
}

impl InplaceOp3 for AddNorm {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(
        &self,
        dst: &mut CpuStorage,
        dst_l: &Layout,
        residual: &CpuStorage,
        residual_l: &Layout,
        affine: &CpuStorage,
        affine_l: &Layout,
    ) -> Result<()> {
        let affine = values(affine, affine_l)?;
        let width = affine.len() / 3;
        let (bias, affine) = affine.split_at(width);
        let (gain, shift) = affine.split_at(width);
        let residual = values(residual, residual_l)?.chunks_exact(width);
        for (row, residual) in values_mut(dst, dst_l)?.chunks_exact_mut(width).zip(residual) {
            for ((x, r), b) in row.iter_mut().zip(residual).zip(bias) {
                *x += r + b;
            }
            normalize(row, gain, shift, self.epsilon);
        }
        Ok(())
    }
}

/// Applies layer normalisation to one row.
pub(super) fn normalize(row: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) {
    let width = row.len() as f32;
    let mean = sum(row) / width;
    for x in row.iter_mut() {
        *x -= mean;
    }
    let scale = 1.0 / (sum_of_squares(row) / width + epsilon).sqrt();
    for ((x, g), s) in row.iter_mut().zip(gain).zip(shift) {
        *x = *x * scale * g + s;
    }
}

/// Adds up in eight lanes, since one running sum cannot be vectorised.
fn sum(row: &[f32]) -> f32 {
    lanes(row, |x| x)
}

fn sum_of_squares(row: &[f32]) -> f32 {
    lanes(row, |x| x * x)
}

fn lanes(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    let chunks = row.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| term(*x)).sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += term(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `x · Φ(x)` with the exact error function to about 1e-6.
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function as a ratio of polynomials on [-4, 4], outside which it is ±1 in f32.
///
/// The coefficients are those of Eigen's `generic_fast_erf_float`.
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let y = x * x;
    let mut p = -2.726_142_3e-10;
    for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906e-4, -2.954_6e-3, -1.609_603_3e-2] {
        p = p * y + c;
    }
    let mut q = -1.456_607_2e-5;
    for c in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = q * y + c;
    }
    x * p / q
}

/// `e^x` for `x <= 0` to about 1e-5 relative: 2^n by the exponent's bits times a polynomial for the rest.
fn exp(x: f32) -> f32 {
    /// Added and taken away, it rounds to an integer whose bits stand at the bottom of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let t = x.max(-87.0) * std::f32::consts::LOG2_E;
    let shifted = t + ROUND;
    let rest = (t - (shifted - ROUND)) * std::f32::consts::LN_2;
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * rest + c;
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(power)
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (from, to) = span(layout)?;
    Ok(&storage.as_slice::<f32>()?[from..to])
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (from, to) = span(layout)?;
    match storage {
        CpuStorage::F32(all) => Ok(&mut all[from..to]),
        _ => candle_core::bail!("an f32 tensor is needed"),
    }
}

fn span(layout: &Layout) -> Result<(usize, usize)> {
    layout.contiguous_offsets().ok_or_else(|| candle_core::Error::msg("a contiguous tensor is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library_over_its_range() {
        for step in 0..8_600 {
            let x = -f64::from(step) / 100.0;
            let (got, want) = (f64::from(exp(x as f32)), f64::from(x as f32).exp());
            assert!((got - want).abs() <= 1e-5 * want, "{x}: {got} against {want}");
        }
        assert!(exp(-1e9) < 1e-37);
    }

    #[test]
    fn gelu_agrees_with_its_definition() {
        // x and x·Φ(x) to nine digits, from scipy.
        let table = [
            (-5.0, -1.433_257_9e-6),
            (-3.0, -0.004_049_694),
            (-1.0, -0.158_655_25),
            (-0.1, -0.046_017_22),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (2.0, 1.954_499_7),
            (6.0, 6.0),
        ];
        for (x, want) in table {
            assert!((gelu(x) - want).abs() < 3e-6, "{x}: {} against {want}", gelu(x));
        }
    }

    #[test]
    fn a_normalised_row_has_mean_shift_and_deviation_gain() {
        let mut row: Vec<f32> = (0..13u8).map(f32::from).collect();
        normalize(&mut row, &[2.0; 13], &[5.0; 13], 1e-12);
        let mean = row.iter().sum::<f32>() / 13.0;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 13.0;
        assert!((mean - 5.0).abs() < 1e-5 && (variance - 4.0).abs() < 1e-4);
    }
}
