//! The kernels and the tensor operations must give the same numbers.

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::device::TensorEngine;

/// Numbers between -1 and 1 without a pattern.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn rows(count: usize, width: usize, seed: u32) -> Tensor {
    Tensor::from_vec(numbers(count * width, seed), (count, width), &Device::Cpu).unwrap()
}

fn assert_same(of: impl Fn(&ComputeDevice) -> Tensor, what: &str) {
    let tensors = ComputeDevice::Tensors(TensorEngine::new(Device::Cpu, DType::F32));
    let [one, other] = [&ComputeDevice::Kernels(RowPrecision::F32), &tensors]
        .map(|device| of(device).flatten_all().unwrap().to_vec1().unwrap());
    assert_eq!(one.len(), other.len(), "{what}");
    for (a, b) in one.iter().zip::<&Vec<f32>>(&other) {
        assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{what}: {a} against {b}");
    }
}

#[test]
fn attention_is_the_same_for_any_lengths_with_and_without_angles_and_reach() {
    for (starts, heads, size) in [
        (&[0, 1][..], 1, 2),
        (&[0, 7, 8, 41, 50, 52], 4, 8),
        (&[0, 200, 233], 2, 16),
        (&[0, 16, 32, 48], 3, 4),
    ] {
        let qkv = rows(*starts.last().unwrap(), 3 * heads * size, 3);
        let inverse: Vec<f32> = (0..size / 2).map(|pair| 0.3_f32.powf(pair as f32)).collect();
        for reach in [None, Some(0), Some(3), Some(64), Some(1000)] {
            for turns in [false, true] {
                assert_same(
                    |device| {
                        let rope = RotaryEmbedding::new(&inverse, 256, 1.2, device).unwrap();
                        let patterns = [AttentionPattern { rope: turns.then_some(&rope), reach, bias: None }];
                        let layout = BatchLayout::new(
                            starts,
                            AttentionShape { heads, head_size: size },
                            &patterns,
                            device,
                        )
                        .unwrap();
                        layout.attention(&qkv, 0).unwrap()
                    },
                    &format!("{starts:?} reach {reach:?} angles {turns}"),
                );
            }
        }
    }
}

#[test]
fn layers_are_the_same() {
    let input = rows(9, 24, 1);
    let residual = rows(9, 10, 2);
    for activation in [
        Activation::Identity,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        for is_int8 in [false, true] {
            let of = |device: &ComputeDevice| {
                let data = numbers(240, 5);
                let weight = if is_int8 {
                    let data = data.iter().map(|x| (x * 127.0) as i8).collect();
                    let scale = numbers(10, 6).iter().map(|x| x / 127.0).collect();
                    Matrix::Int8 { rows: 10, cols: 24, data, scale }
                } else {
                    Matrix::F32 { rows: 10, cols: 24, data }
                };
                Linear::new(weight, Some(numbers(10, 7)), device).unwrap()
            };
            assert_same(
                |device| of(device).forward_activated(&input, activation).unwrap(),
                &format!("{activation:?} {is_int8}"),
            );
            for shift in [None, Some(numbers(10, 9))] {
                assert_same(
                    |device| {
                        let norm = LayerNorm::new(numbers(10, 8), shift.clone(), 1e-5, device).unwrap();
                        let sum = of(device).forward_add_norm(&input, &residual, &norm).unwrap();
                        (norm.forward(&sum).unwrap() + of(device).forward_add(&input, &residual).unwrap())
                            .unwrap()
                    },
                    "norm",
                );
            }
        }
        for bias in [None, Some(numbers(10, 7))] {
            let gated = |device: &ComputeDevice| {
                let weight = Matrix::F32 { rows: 10, cols: 24, data: numbers(240, 5) };
                GatedLinear::new(weight, bias.clone(), device).unwrap().forward(&input, activation).unwrap()
            };
            assert_same(gated, &format!("gated {activation:?}"));
        }
    }
}

#[test]
fn rows_are_pooled_within_their_text() {
    let states = Tensor::new(&[[1f32, 8.0], [3.0, 4.0], [5.0, 0.0], [-1.0, -2.0]], &Device::Cpu).unwrap();
    let pooled = |pooling| pool(&[&states], &[0, 3, 4], pooling).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(pooled(Pooling::First), [[1.0, 8.0], [-1.0, -2.0]]);
    assert_eq!(pooled(Pooling::Last), [[5.0, 0.0], [-1.0, -2.0]]);
    assert_eq!(pooled(Pooling::Mean), [[3.0, 4.0], [-1.0, -2.0]]);
    assert_eq!(pooled(Pooling::Max), [[5.0, 8.0], [-1.0, -2.0]]);
    assert_eq!(pooled(Pooling::Weighted)[0], [22.0 / 6.0, 16.0 / 6.0]);
    let both = [&states, &(&states * 2.0).unwrap()];
    for pooling in [Pooling::First, Pooling::Max, Pooling::Mean, Pooling::MeanSqrt] {
        let both = pool(&both, &[0, 3, 4], pooling).unwrap().to_vec2::<f32>().unwrap();
        for (both, one) in both.iter().zip(pooled(pooling)) {
            assert_eq!(*both, [&one[..], &one.iter().map(|x| 2.0 * x).collect::<Vec<_>>()].concat());
        }
    }
    let near = with_neighbours(&states, &[0, 3, 4], 1).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(near[0], [0.0, 0.0, 1.0, 8.0, 3.0, 4.0]);
    assert_eq!(near[2], [3.0, 4.0, 5.0, 0.0, 0.0, 0.0]);
    assert_eq!(near[3], [0.0, 0.0, -1.0, -2.0, 0.0, 0.0]);
}

#[test]
fn any_number_of_texts_is_pooled_like_one() {
    let lengths = [1, 700, 3, 3000, 5, 2, 1000, 4];
    let starts: Vec<usize> = std::iter::once(0)
        .chain(lengths.iter().cycle().take(40).scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        }))
        .collect();
    let states = rows(*starts.last().unwrap(), 2, 4);
    let whole = pool(&[&states], &starts, Pooling::MeanSqrt).unwrap().to_vec2::<f32>().unwrap();
    for (text, row) in starts.windows(2).zip(whole) {
        let states = states.narrow(0, text[0], text[1] - text[0]).unwrap();
        let sum = states.sum(0).unwrap().to_vec1::<f32>().unwrap();
        let root = ((text[1] - text[0]) as f32).sqrt();
        assert!(row.iter().zip(sum).all(|(row, sum)| (row - sum / root).abs() < 1e-3));
    }
}

#[test]
fn an_index_outside_a_table_is_an_error() {
    let table = EmbeddingTable::new(
        Matrix::F32 { rows: 2, cols: 1, data: vec![1.0, 2.0] },
        &ComputeDevice::Kernels(RowPrecision::F32),
    )
    .unwrap();
    assert_eq!(table.gather(&[1, 0]).unwrap().to_vec2::<f32>().unwrap(), [[2.0], [1.0]]);
    assert!(table.gather(&[2]).is_err());
}

#[test]
fn spans_are_pooled_alike_and_as_if_each_were_a_text() {
    let states = [rows(70, 12, 1), rows(70, 12, 2)];
    let read: Vec<&Tensor> = states.iter().collect();
    let units = [1..9, 9..25, 25..26, 26..42, 45..53, 53..69];
    let spans = [0..2, 1..4, 2..3, 4..6];
    for pooling in [Pooling::Mean, Pooling::Max] {
        let of = |device: &ComputeDevice| match device {
            ComputeDevice::Kernels(_) => pool_spans(&read, &units, &spans, pooling).unwrap(),
            // Half precision goes by tensor operations, on the processor too; doubles are no device's.
            ComputeDevice::Tensors(_) => {
                let doubles: Vec<Tensor> =
                    states.iter().map(|state| state.to_dtype(DType::F64).unwrap()).collect();
                let read: Vec<&Tensor> = doubles.iter().collect();
                pool_spans(&read, &units, &spans, pooling).unwrap().to_dtype(DType::F32).unwrap()
            }
        };
        assert_same(of, &format!("{pooling:?}"));
        let pooled = of(&ComputeDevice::Kernels(RowPrecision::F32));
        for (at, span) in spans.iter().enumerate() {
            let tokens = units[span.start].start..units[span.end - 1].end;
            let alone: Vec<Tensor> =
                states.iter().map(|state| state.narrow(0, tokens.start, tokens.len()).unwrap()).collect();
            let alone = pool(&alone.iter().collect::<Vec<_>>(), &[0, tokens.len()], pooling).unwrap();
            let [got, want] =
                [pooled.get(at).unwrap(), alone.get(0).unwrap()].map(|row| row.to_vec1::<f32>().unwrap());
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{pooling:?}: span {at}");
        }
    }
    assert!(pool_spans(&read, &units, &spans, Pooling::First).is_err());
    assert!(pool_spans(&read, &[60..71, 0..1], &spans[..1], Pooling::Max).is_err());
}
