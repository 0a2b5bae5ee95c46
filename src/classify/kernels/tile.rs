//! The innermost product: a few rows times a few vectors of columns, kept in registers; and what is applied to it.
//!
//! Written once over pulp's vectors: AVX-512, AVX2, NEON or scalars, as found when the program runs. Everything
//! is inlined into one function a dispatch, for only that function may use the wide instructions.

use pulp::Simd;

/// A function of each element of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Leaves it as it is.
    Identity,
    /// `x · Φ(x)`.
    Gelu,
    /// GELU through the hyperbolic tangent.
    GeluTanh,
    /// The positive part.
    Relu,
    /// `x · σ(x)`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

/// Vectors of columns in a tile.
pub(super) const WIDE: usize = 2;

/// Sums of `R` rows and `V` vectors of columns.
pub(super) type Tile<S, const R: usize, const V: usize> = [[<S as Simd>::f32s; V]; R];

/// Adds to `sums` the product of `rows`, `R` slices as long as `panel`, and `panel`.
#[inline(always)]
pub(super) fn multiply<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut sums: Tile<S, R, V>,
    rows: [&[f32]; R],
    panel: &[[S::f32s; V]],
) -> Tile<S, R, V> {
    let mut same = rows;
    for row in &mut same {
        *row = &row[..panel.len()];
    }
    for k in 0..panel.len() {
        let columns = panel[k];
        for r in 0..R {
            let x = simd.splat_f32s(same[r][k]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(x, columns[v], sums[r][v]);
            }
        }
    }
    sums
}

/// Applies `activation` to every sum.
#[inline(always)]
pub(super) fn apply<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &mut Tile<S, R, V>,
    activation: Activation,
) {
    match activation {
        Activation::Identity => {}
        Activation::Gelu => {
            for row in sums {
                for x in row {
                    *x = gelu(simd, *x);
                }
            }
        }
        Activation::GeluTanh => {
            for row in sums {
                for x in row {
                    *x = gelu_tanh(simd, *x);
                }
            }
        }
        Activation::Relu => {
            let zero = simd.splat_f32s(0.0);
            for row in sums {
                for x in row {
                    *x = simd.max_f32s(zero, *x);
                }
            }
        }
        Activation::Silu => {
            for row in sums {
                for x in row {
                    *x = simd.mul_f32s(*x, sigmoid(simd, *x));
                }
            }
        }
        Activation::Tanh => {
            for row in sums {
                for x in row {
                    *x = tanh(simd, *x);
                }
            }
        }
        Activation::Sigmoid => {
            for row in sums {
                for x in row {
                    *x = sigmoid(simd, *x);
                }
            }
        }
    }
}

/// `x · Φ(x)` with the exact error function to about 1e-6.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
    // Far below zero only the last bit of `1 + erf` is left, which must not grow with `x`.
    let x = simd.max_f32s(simd.splat_f32s(-6.0), x);
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    simd.mul_add_e_f32s(half, erf, half)
}

/// The approximation of GELU through the hyperbolic tangent: `x · σ(2 √(2/π) (x + 0.044715 x³))`.
#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const INNER: f32 = 2.0 * 0.797_884_6;
    let square = simd.mul_f32s(x, x);
    let inner = simd.mul_add_e_f32s(square, simd.splat_f32s(INNER * 0.044_715), simd.splat_f32s(INNER));
    simd.mul_f32s(x, sigmoid(simd, simd.mul_f32s(x, inner)))
}

/// The error function as a ratio of polynomials on [-4, 4], outside which it is ±1 in f32.
///
/// The coefficients are those of Eigen's `generic_fast_erf_float`.
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_5e-5,
        -7.349_906e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    // The bounds are the first operands: min and max return the second where it is not a number.
    let x = simd.min_f32s(simd.splat_f32s(4.0), simd.max_f32s(simd.splat_f32s(-4.0), x));
    let square = simd.mul_f32s(x, x);
    let above = polynomial(simd, square, ABOVE);
    let below = polynomial(simd, square, BELOW);
    simd.div_f32s(simd.mul_f32s(x, above), below)
}

#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let twice = simd.splat_f32s(2.0);
    simd.mul_add_e_f32s(twice, sigmoid(simd, simd.mul_f32s(x, twice)), simd.splat_f32s(-1.0))
}

#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let power = exp2(simd, simd.mul_f32s(x, simd.splat_f32s(-std::f32::consts::LOG2_E)));
    simd.div_f32s(one, simd.add_f32s(one, power))
}

/// `2^x` to about 1e-7 relative, held to 2^±126.
#[inline(always)]
fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    exp2_down(simd, simd.min_f32s(simd.splat_f32s(126.0), x))
}

/// `2^x` for `x < 127` to about 1e-7 relative, at least 2^-126: 2^n by the exponent's bits times a polynomial for the
/// rest.
#[inline(always)]
pub(super) fn exp2_down<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Added and subtracted again, it rounds to an integer whose bits are the lowest of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    /// `2^r` for `r` in [-½, ½].
    const POWER: [f32; 6] =
        [1.326_472_4e-3, 9.671_513e-3, 5.550_733_6e-2, 2.402_224_2e-1, std::f32::consts::LN_2, 1.0];
    let x = simd.max_f32s(simd.splat_f32s(-126.0), x);
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.add_f32s(x, round);
    let rest = simd.sub_f32s(x, simd.sub_f32s(shifted, round));
    let power = polynomial(simd, rest, POWER);
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), bits))
}

/// Evaluates by Horner's scheme; the coefficient of the highest power comes first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for c in &coefficients[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(*c));
    }
    sum
}

/// Reads vector `v` of `from`; zeros where it is too short.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, from: &[f32], v: usize) -> S::f32s {
    match from.get(v * S::F32_LANES..(v + 1) * S::F32_LANES) {
        Some(whole) => S::as_simd_f32s(whole).0[0],
        None => simd.partial_load_f32s(from.get(v * S::F32_LANES..).unwrap_or_default()),
    }
}

/// Writes vector `v` of `into`, as far as there is room.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, into: &mut [f32], v: usize, value: S::f32s) {
    if into.len() >= (v + 1) * S::F32_LANES {
        S::as_mut_simd_f32s(&mut into[v * S::F32_LANES..(v + 1) * S::F32_LANES]).0[0] = value;
    } else if into.len() > v * S::F32_LANES {
        simd.partial_store_f32s(&mut into[v * S::F32_LANES..], value);
    }
}
