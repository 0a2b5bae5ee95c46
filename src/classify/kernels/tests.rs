//! Every kernel against its definition in f64, over shapes that fit no vector.

use proptest::prelude::*;

use super::dispatch::forced::{self, Width};
use super::*;

/// Stand for a number of threads: vectors of four or sixteen numbers.
const FOUR: usize = 4;
const SIXTEEN: usize = 16;

/// Numbers between -1 and 1, from a seed.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn assert_near(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let difference = (f64::from(*got) - want).abs();
        assert!(difference <= tolerance * want.abs().max(1.0), "{at}: {got} against {want}");
    }
}

/// The error function by its series, which 100 terms carry far beyond f32 for `|x| < 5`.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn activated(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

fn activations() -> impl Strategy<Value = Activation> {
    prop::sample::select(vec![
        Activation::Identity,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
    ])
}

/// A matrix, f32 or int8, and its weights in double precision.
fn matrix(rows: usize, cols: usize, is_float: bool, seed: u64) -> (Matrix, Vec<f64>) {
    let data = numbers(rows * cols, seed);
    if is_float {
        let plain = data.iter().map(|x| f64::from(*x)).collect();
        return (Matrix::F32 { rows, cols, data }, plain);
    }
    let scale: Vec<f32> = numbers(rows, seed + 1).iter().map(|x| (x + 1.5) / 127.0).collect();
    let data: Vec<i8> = data.iter().map(|x| (x * 127.0).round() as i8).collect();
    let plain = data.iter().enumerate().map(|(at, x)| f64::from(*x) * f64::from(scale[at / cols])).collect();
    (Matrix::Int8 { rows, cols, data, scale }, plain)
}

fn product(
    rows: &[f32],
    weights: &[f64],
    bias: Option<&[f32]>,
    cols: usize,
    activation: Activation,
) -> Vec<f64> {
    let mut out = Vec::new();
    for row in rows.chunks_exact(cols) {
        for (output, weights) in weights.chunks_exact(cols).enumerate() {
            let sum: f64 = row.iter().zip(weights).map(|(x, w)| f64::from(*x) * w).sum();
            out.push(activated(sum + bias.map_or(0.0, |bias| f64::from(bias[output])), activation));
        }
    }
    out
}

fn mixed(attention: &Attention<'_>) -> Vec<f64> {
    let width = attention.heads * attention.size;
    let half = attention.size / 2;
    let tokens = attention.qkv.len() / (3 * width);
    let mut out = vec![0.0; tokens * width];
    for text in attention.starts.windows(2) {
        for head in 0..attention.heads {
            let part = |token: usize, which: usize| -> Vec<f64> {
                let from = ((text[0] + token) * 3 + which) * width + head * attention.size;
                let plain: Vec<f64> =
                    attention.qkv[from..][..attention.size].iter().map(|x| f64::from(*x)).collect();
                let Some(rope) = attention.rope.filter(|_| which < 2) else { return plain };
                let turn = |at: usize| rope.angle(token, at % half);
                (0..attention.size)
                    .map(|at| {
                        let (cos, sin) = turn(at);
                        let other = if at < half { -plain[at + half] } else { plain[at - half] };
                        plain[at] * f64::from(cos) + other * f64::from(sin)
                    })
                    .collect()
            };
            let length = text[1] - text[0];
            for query in 0..length {
                let asking = part(query, 0);
                let near = |key: &usize| attention.reach.is_none_or(|reach| key.abs_diff(query) <= reach);
                let shares: Vec<(usize, f64)> = (0..length)
                    .filter(near)
                    .map(|key| {
                        let score: f64 = asking.iter().zip(part(key, 1)).map(|(x, y)| x * y).sum();
                        (key, (score / (attention.size as f64).sqrt()).exp())
                    })
                    .collect();
                let all: f64 = shares.iter().map(|(_, share)| share).sum();
                let into = &mut out[(text[0] + query) * width + head * attention.size..][..attention.size];
                for (key, share) in shares {
                    for (to, x) in into.iter_mut().zip(part(key, 2)) {
                        *to += share / all * x;
                    }
                }
            }
        }
    }
    out
}

fn starts(lengths: &[usize]) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend(lengths.iter().scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    }));
    starts
}

fn attended(attention: Attention<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; attention.qkv.len() / 3];
    attend(attention, &mut out);
    out
}

/// Runs in a pool of several threads, or in none, or with vectors of another width.
fn within<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    forced::set(Width::Native);
    match threads {
        0 => work(),
        FOUR | SIXTEEN => {
            forced::set(if threads == FOUR { Width::Four } else { Width::Sixteen });
            let done = work();
            forced::set(Width::Native);
            done
        }
        threads => rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work),
    }
}

fn ways() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 1, 2, FOUR, SIXTEEN])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_product_is_the_sum_of_products_whatever_the_shape(
        count in 0usize..70, inputs in 1usize..100, outputs in 1usize..90, is_float: bool, with_bias: bool,
        activation in activations(), threads in ways(), seed: u64,
    ) {
        let seed = seed >> 1;
        let (matrix, plain) = matrix(outputs, inputs, is_float, seed);
        let bias = numbers(outputs, seed + 2);
        let bias = with_bias.then_some(bias.as_slice());
        let rows = numbers(count * inputs, seed + 3);
        let mut out = vec![f32::NAN; count * outputs];
        within(threads, || PackedMatrix::new(&matrix, bias).multiply(&rows, &mut out, activation));
        assert_near(&out, &product(&rows, &plain, bias, inputs, activation), 1e-5);
    }

    #[test]
    fn a_product_of_rounded_rows_is_off_by_no_more_than_their_rounding(
        (count, inputs, outputs) in (0usize..30, 1usize..90, 1usize..100),
        threads in ways(),
        (shift, activation) in (-2.0f32..2.0, activations()),
        seed in any::<u64>(),
    ) {
        let (matrix, weights) = matrix(outputs, inputs, false, seed);
        let bias = numbers(outputs, seed ^ 5);
        let rows: Vec<f32> = numbers(count * inputs, seed ^ 9).iter().map(|x| x + shift).collect();
        let mut got = vec![f32::NAN; count * outputs];
        let packed = PackedMatrix::with_rounded_rows(&matrix, Some(&bias));
        within(threads, || packed.multiply(&rows, &mut got, activation));
        let want = product(&rows, &weights, Some(&bias), inputs, activation);
        for (row, (got, want)) in
            rows.chunks_exact(inputs).zip(got.chunks_exact(outputs).zip(want.chunks_exact(outputs)))
        {
            let [least, most] = [f32::min, f32::max].map(|of| f64::from(row.iter().copied().fold(0.0, of)));
            // Half a step for the number itself, and as much for where 0 is.
            let each = (most - least) / 255.0;
            for (weights, (got, want)) in weights.chunks_exact(inputs).zip(got.iter().zip(want)) {
                let most = each * weights.iter().map(|weight| weight.abs()).sum::<f64>();
                // No activation is steeper than 1.13, which GELU is.
                prop_assert!((f64::from(*got) - want).abs() <= 1.13 * most + 1e-4, "{got} against {want}");
            }
        }
    }

    #[test]
    fn attention_is_the_softmax_of_each_texts_own_scores(
        lengths in prop::collection::vec(0usize..70, 1..4), heads in 1usize..4, half in 1usize..20,
        turned: bool, reach in prop::option::of(0usize..40), threads in ways(), seed: u64,
    ) {
        let (size, starts) = (2 * half, starts(&lengths));
        let qkv: Vec<f32> = numbers(starts[lengths.len()] * 3 * heads * size, seed).iter().map(|x| 3.0 * x).collect();
        let rope = Rope::new(&(0..half).map(|at| 1.0 / (1.0 + at as f32)).collect::<Vec<_>>(), 70, 1.1);
        let rope = turned.then_some(&rope);
        let attention = Attention { qkv: &qkv, starts: &starts, heads, size, rope, reach };
        let out = within(threads, || attended(attention));
        assert_near(&out, &mixed(&attention), 2e-5);
    }

    #[test]
    fn a_norm_has_the_mean_and_deviation_that_it_says(
        count in 0usize..40, width in 1usize..70, added: bool, shifted: bool, threads in ways(), seed: u64,
    ) {
        let (rows, residual) = (numbers(count * width, seed), numbers(count * width, seed ^ 7));
        let shift = shifted.then(|| numbers(width, seed ^ 5));
        let norm = Norm { gain: numbers(width, seed ^ 3), shift, epsilon: 1e-5 };
        let mut out = rows.clone();
        within(threads, || if added { norm.add_normalize(&mut out, &residual) } else { norm.normalize(&mut out) });
        let mut want = Vec::new();
        for (row, residual) in rows.chunks_exact(width).zip(residual.chunks_exact(width)) {
            let row: Vec<f64> = row
                .iter()
                .zip(residual)
                .map(|(x, y)| f64::from(*x) + if added { f64::from(*y) } else { 0.0 })
                .collect();
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            want.extend(row.iter().enumerate().map(|(at, x)| {
                let shift = norm.shift.as_ref().map_or(0.0, |shift| f64::from(shift[at]));
                (x - mean) / (variance + 1e-5).sqrt() * f64::from(norm.gain[at]) + shift
            }));
        }
        assert_near(&out, &want, 1e-3);
    }

    #[test]
    fn a_gate_multiplies_what_is_activated_by_the_rest(
        count in 0usize..40, width in 1usize..50, activation in activations(), threads in ways(), seed: u64,
    ) {
        let rows: Vec<f32> = numbers(2 * count * width, seed).iter().map(|x| 6.0 * x).collect();
        let mut out = vec![f32::NAN; count * width];
        within(threads, || gate(&rows, width, activation, &mut out));
        let want: Vec<f64> = rows
            .chunks_exact(2 * width)
            .flat_map(|row| (0..width).map(|at| activated(f64::from(row[at]), activation) * f64::from(row[width + at])))
            .collect();
        assert_near(&out, &want, 1e-5);
    }
}

#[test]
fn a_product_taller_and_deeper_than_one_block_is_still_the_sum() {
    let (count, inputs, outputs) = (397, 801, 37);
    for (is_float, threads) in [(false, 0), (true, 0), (false, 3), (true, 3), (false, FOUR), (true, SIXTEEN)]
    {
        let (matrix, plain) = matrix(outputs, inputs, is_float, 9);
        let (rows, bias) = (numbers(count * inputs, 4), numbers(outputs, 5));
        let mut out = vec![f32::NAN; count * outputs];
        within(threads, || {
            PackedMatrix::new(&matrix, Some(&bias)).multiply(&rows, &mut out, Activation::Identity);
        });
        assert_near(&out, &product(&rows, &plain, Some(&bias), inputs, Activation::Identity), 1e-4);
    }
}

#[test]
fn attention_over_more_keys_than_a_block_is_the_same_softmax() {
    let (heads, size) = (2, 8);
    let starts = [0, 700, 1_301];
    // Scores that rise along the text, so that the running maximum has to be corrected.
    let mut qkv = numbers(starts[2] * 3 * heads * size, 3);
    for (at, row) in qkv.chunks_exact_mut(3 * heads * size).enumerate() {
        for x in &mut row[..2 * heads * size] {
            *x = 1.0 + *x * at as f32 / 400.0;
        }
    }
    let rope = Rope::new(&[1.0, 0.3, 0.1, 0.01], 700, 1.0);
    for (rope, reach) in [(None, None), (None, Some(64)), (Some(&rope), Some(300)), (Some(&rope), None)] {
        let attention = Attention { qkv: &qkv, starts: &starts, heads, size, rope, reach };
        for threads in [0, 3, FOUR, SIXTEEN] {
            assert_near(&within(threads, || attended(attention)), &mixed(&attention), 1e-4);
        }
    }
}

#[test]
fn scores_far_apart_choose_one_value_and_none_overflow() {
    let (size, tokens) = (4, 300);
    for large in [1e2f32, 1e4, 1e9] {
        let mut qkv = numbers(tokens * 3 * size, 8);
        for row in qkv.chunks_exact_mut(3 * size) {
            row[..2 * size].iter_mut().for_each(|x| *x *= large);
        }
        let attention =
            Attention { qkv: &qkv, starts: &[0, tokens], heads: 1, size, rope: None, reach: None };
        let out = attended(attention);
        assert!(out.iter().all(|x| x.is_finite() && x.abs() <= 1.0), "{large}");
    }
}

#[test]
fn what_is_no_number_stays_in_its_row_and_in_its_text() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (matrix, _) = matrix(20, 12, false, 1);
        let packed = PackedMatrix::new(&matrix, None);
        for activation in [
            Activation::Identity,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Tanh,
            Activation::Sigmoid,
        ] {
            let mut rows = numbers(9 * 12, 2);
            rows[4 * 12 + 3] = f32::NAN;
            let mut out = vec![0.0; 9 * 20];
            packed.multiply(&rows, &mut out, activation);
            for (at, row) in out.chunks_exact(20).enumerate() {
                assert!(row.iter().all(|x| x.is_nan() == (at == 4)), "{activation:?} {row:?}");
            }
        }
        let mut qkv = numbers(30 * 3 * 8, 5);
        qkv[12 * 3 * 8 + 1] = bad;
        let attention =
            Attention { qkv: &qkv, starts: &[0, 10, 20, 30], heads: 1, size: 8, rope: None, reach: None };
        let out = attended(attention);
        for (at, row) in out.chunks_exact(8).enumerate() {
            assert_eq!(row.iter().any(|x| !x.is_finite()), at == 12, "{bad} {at} {row:?}");
        }
        let norm = Norm { gain: vec![1.0; 6], shift: None, epsilon: 1e-5 };
        let mut rows = numbers(18, 3);
        rows[7] = bad;
        norm.normalize(&mut rows);
        for (at, row) in rows.chunks_exact(6).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (at == 1)), "{bad} {row:?}");
        }
    }
}

#[test]
fn activations_hold_over_the_whole_range() {
    let xs: Vec<f32> = (-4_000..=4_000).map(|x| x as f32 / 100.0).collect();
    let ones = vec![1.0; xs.len()];
    for activation in [
        Activation::Identity,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        let rows = [xs.clone(), ones.clone()].concat();
        let mut out = vec![0.0; xs.len()];
        gate(&rows, xs.len(), activation, &mut out);
        assert!(out[0].abs() < 1e-6 || activation == Activation::Identity || activation == Activation::Tanh);
        for (x, got) in xs.iter().zip(out) {
            let want = activated(f64::from(*x), activation);
            assert!(
                (f64::from(got) - want).abs() < 3e-6 * want.abs().max(1.0),
                "{activation:?} {x}: {got} against {want}"
            );
        }
    }
}

#[test]
fn a_mean_is_that_of_its_own_texts_rows() {
    let rows: Vec<f32> = (0..12u8).map(f32::from).collect();
    let mut three = [f32::NAN; 9];
    means(&rows, &[0, 1, 1, 4], 3, &mut three);
    assert_near(&three, &[0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 6.0, 7.0, 8.0], 1e-6);
}

#[test]
fn nothing_comes_of_no_rows() {
    let (matrix, _) = matrix(5, 7, true, 1);
    PackedMatrix::new(&matrix, None).multiply(&[], &mut [], Activation::Gelu);
    let attention = Attention { qkv: &[], starts: &[0], heads: 2, size: 4, rope: None, reach: None };
    attend(attention, &mut []);
    attend(Attention { starts: &[0, 0], ..attention }, &mut []);
    gate(&[], 3, Activation::Silu, &mut []);
}
