//! The quantiser's promise, for any finite weights.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow_quant::{
    CodeBits, Grid, PlainRows, QuantTensor, Quantization, Scales, Tensor, TensorData,
    WeightFileError, Zero, pack_panel16, quantize, unpack_panel16,
};
use half::f16;
use proptest::prelude::*;

fn run(weights: &[f32], n: usize, k: usize, how: Quantization) -> Result<Tensor, WeightFileError> {
    let quant = quantize(PlainRows::F32(weights), n, k, how, |_| true)?;
    Tensor::new("w", vec![n, k], TensorData::Quant(quant))
}

/// Scale and half-precision minimum of a row's group.
fn scale(quant: &QuantTensor, k: usize, row: usize, group: usize) -> (f32, f32) {
    let at = (row / 16 * quant.groups(k) + group) * 16 + row % 16;
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]]).to_f32();
    let scale = match &quant.scales {
        Scales::F16(bytes) => half(bytes),
        Scales::F32(bytes) => f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().unwrap()),
    };
    (
        scale,
        if let Zero::MinF16(bytes) = &quant.zero {
            half(bytes)
        } else {
            0.0
        },
    )
}

fn check(weights: &[f32], n: usize, k: usize, how: Quantization) {
    let tensor = run(weights, n, k, how).unwrap();
    let TensorData::Quant(quant) = &tensor.data else {
        unreachable!()
    };
    let width = if how.group_size == 0 {
        k
    } else {
        how.group_size
    };
    for (i, (got, weight)) in tensor.dequantize().iter().zip(weights).enumerate() {
        let (scale, minimum) = scale(quant, k, i / k, i % k / width);
        // Beside the rounding of the code there is that of the arithmetic: a few units in the last
        // place of the numbers that take part.
        let arithmetic =
            (weight.abs() + minimum.abs() + scale.abs() * how.bits.levels() as f32) * 4e-7;
        let bound = scale.abs() * 0.5 + arithmetic + f32::MIN_POSITIVE;
        let error = (f64::from(*got) - f64::from(*weight)).abs();
        assert!(
            error <= f64::from(bound),
            "{how:?}: {weight:e} became {got:e}, step {scale:e}"
        );
    }
}

fn settings() -> impl Strategy<Value = Quantization> {
    let bits = prop_oneof![
        Just(CodeBits::Int8),
        Just(CodeBits::Int4),
        Just(CodeBits::Int2)
    ];
    let grid = prop_oneof![
        Just(Grid::Symmetric),
        Just(Grid::Asymmetric),
        Just(Grid::Minimum)
    ];
    (
        bits,
        prop_oneof![Just(0), Just(32), Just(64), Just(128)],
        grid,
    )
        .prop_map(|(bits, group_size, grid)| Quantization {
            bits,
            group_size,
            grid,
        })
}

/// Weights of one magnitude, of many, constant, or none.
fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -3.0_f32..3.0,
        1 => -1e4_f32..1e4,
        1 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(1.5),
        1 => -1e-40_f32..1e-40,
        1 => -1e-7_f32..1e-7,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn for_any_weights(how in settings(), rows in 1_usize..20, seed in prop::collection::vec(weight(), 256)) {
        let weights: Vec<f32> = seed.iter().cycle().take(rows * 128).copied().collect();
        check(&weights, rows, 128, how);
    }

    /// Row by row the weights are the same, in less room where there are few rows.
    #[test]
    fn panels_row_by_row(how in settings(), rows in 1_usize..40, seed in prop::collection::vec(weight(), 256)) {
        let k = if how.group_size == 0 { 37 } else { 2 * how.group_size };
        let weights: Vec<f32> = seed.iter().copied().cycle().take(rows * k).collect();
        if let Ok(tensor) = run(&weights, rows, k, how) {
            let TensorData::Quant(quant) = &tensor.data else { unreachable!("quantised") };
            let turned = quant.row_major(rows, k);
            let turned = Tensor::new("w", vec![rows, k], TensorData::Quant(turned)).unwrap();
            let bits = |tensor: &Tensor| tensor.dequantize().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&turned), bits(&tensor));
            prop_assert!(turned.size_bytes() <= tensor.size_bytes());
        }
    }

    #[test]
    fn packing_is_bijective(n in 1_usize..40, k in 1_usize..70, seed in any::<u64>()) {
        for bits in [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2] {
            let mask = (bits.levels() - 1) as u8;
            let code = |i: usize| (seed.rotate_left(i as u32) as u8 ^ i as u8) & mask;
            let codes: Vec<u8> = (0..n * k).map(code).collect();
            let packed = pack_panel16(&codes, n, k, bits);
            prop_assert_eq!(unpack_panel16(&packed, n, k, bits), codes);
        }
    }
}

#[test]
fn for_constant_rows_zeros_and_extremes() {
    for bits in [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2] {
        for grid in [Grid::Symmetric, Grid::Asymmetric, Grid::Minimum] {
            for group_size in [0, 32] {
                let how = Quantization {
                    bits,
                    group_size,
                    grid,
                };
                for value in [0.0, 1.0, -1.0, 0.1, 6e4, -6e4, 1e-45, 3e-38] {
                    check(&[value; 64], 1, 64, how);
                }
                check(&[&[6e4; 32][..], &[-6e4; 32]].concat(), 1, 64, how);
                let zeros = run(&[0.0; 64], 1, 64, how).unwrap();
                assert!(
                    zeros.dequantize().iter().all(|&value| value == 0.0),
                    "{how:?}"
                );
            }
        }
    }
    // Only the whole row's scale is wide enough for these.
    let how = Quantization {
        bits: CodeBits::Int8,
        group_size: 0,
        grid: Grid::Symmetric,
    };
    check(&[&[f32::MAX; 8][..], &[f32::MIN; 8]].concat(), 1, 16, how);
}

#[test]
fn levels_beyond_the_largest_float_are_refused() {
    // Both signs: the range is wider than a float holds, and the level above the largest weight with it.
    let weights = [&[3.396e38_f32; 8][..], &[-2.6e36; 8]].concat();
    let how = Quantization {
        bits: CodeBits::Int2,
        group_size: 0,
        grid: Grid::Asymmetric,
    };
    assert!(run(&weights, 1, 16, how).is_err());
}

#[test]
fn near_the_largest_float() {
    for bits in [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2] {
        for grid in [Grid::Symmetric, Grid::Asymmetric] {
            let how = Quantization {
                bits,
                group_size: 0,
                grid,
            };
            // Refused, or within half a step; never infinite.
            for value in [3.396_151_4e38, f32::MAX, f32::MAX / 2.0, f32::MAX / 3.0] {
                for other in [value, -value, -value / 3.0] {
                    let weights = [&[value; 8][..], &[other; 8]].concat();
                    if run(&weights, 1, 16, how).is_ok() {
                        check(&weights, 1, 16, how);
                    }
                }
            }
        }
    }
}

#[test]
fn values_that_no_level_can_stand_for_are_refused_by_place() {
    let how = Quantization {
        bits: CodeBits::Int4,
        group_size: 32,
        grid: Grid::Symmetric,
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut weights = vec![1.0; 20 * 64];
        weights[17 * 64 + 40] = value;
        let error = run(&weights, 20, 64, how).unwrap_err();
        assert!(
            matches!(
                error,
                WeightFileError::NotFinite {
                    row: 17,
                    column: 40,
                    ..
                }
            ),
            "{error}"
        );
    }
    let mut weights = vec![1.0; 64];
    weights[33] = 1e9;
    assert!(matches!(
        run(&weights, 1, 64, how).unwrap_err(),
        WeightFileError::Range {
            row: 0,
            column: 32,
            ..
        }
    ));
    let how = Quantization {
        group_size: 48,
        ..how
    };
    assert!(matches!(
        run(&weights, 1, 64, how).unwrap_err(),
        WeightFileError::GroupSize { .. }
    ));
}

#[test]
fn half_and_brain_floats_give_what_their_single_precision_gives() {
    let how = Quantization {
        bits: CodeBits::Int4,
        group_size: 32,
        grid: Grid::Minimum,
    };
    let halves: Vec<u16> = (0..32 * 40)
        .map(|i| f16::from_f32((i as f32).sin()).to_bits())
        .collect();
    let wide: Vec<f32> = halves
        .iter()
        .map(|&bits| f16::from_bits(bits).to_f32())
        .collect();
    let brains: Vec<u16> = wide
        .iter()
        .map(|value| (value.to_bits() >> 16) as u16)
        .collect();
    let widened: Vec<f32> = brains
        .iter()
        .map(|&bits| f32::from_bits(u32::from(bits) << 16))
        .collect();
    let codes = |rows| quantize(rows, 40, 32, how, |_| true).unwrap().codes;
    assert_eq!(codes(PlainRows::F16(&halves)), codes(PlainRows::F32(&wide)));
    assert_eq!(
        codes(PlainRows::Bf16(&brains)),
        codes(PlainRows::F32(&widened))
    );
}

#[test]
fn quantising_reports_progress_and_stops_when_told() {
    let how = Quantization {
        bits: CodeBits::Int8,
        group_size: 0,
        grid: Grid::Symmetric,
    };
    let weights = vec![0.5; 6000 * 1024];
    let mut seen = Vec::new();
    quantize(PlainRows::F32(&weights), 6000, 1024, how, |done| {
        seen.push(done);
        true
    })
    .unwrap();
    assert!(seen.len() > 1 && seen.is_sorted() && seen.last() == Some(&weights.len()));
    let stopped = quantize(PlainRows::F32(&weights), 6000, 1024, how, |_| false);
    assert!(matches!(stopped, Err(WeightFileError::Cancelled)));
}
