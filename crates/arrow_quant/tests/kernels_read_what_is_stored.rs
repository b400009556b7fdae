//! The kernels and the weight file agree on the order of codes and on what they stand for.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow_quant::{CodeBits, Grid, Quantization, Scales, TensorData, Zero};
use kernels::{GroupScales, GroupZero, QuantPanels, dequantize_row};

const WIDTHS: [CodeBits; 3] = [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2];

#[test]
fn rows_are_dequantised_alike() {
    let (n, k) = (21, 64);
    for bits in WIDTHS {
        for grid in [Grid::Symmetric, Grid::Asymmetric, Grid::Minimum] {
            for group_size in [0, 32] {
                let how = Quantization {
                    bits,
                    group_size,
                    grid,
                };
                let tensor = common::quantized("w", n, k, how);
                let TensorData::Quant(quant) = &tensor.data else {
                    unreachable!()
                };
                let words = |bytes: &[u8]| -> Vec<u16> {
                    bytes
                        .chunks_exact(2)
                        .map(|word| u16::from_le_bytes([word[0], word[1]]))
                        .collect()
                };
                let halves = words(quant.scales.bytes());
                let singles: Vec<f32> = quant
                    .scales
                    .bytes()
                    .chunks_exact(4)
                    .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
                    .collect();
                let minimums = words(quant.zero.bytes());
                let panels = QuantPanels {
                    n,
                    k,
                    bits,
                    group_size,
                    codes: &quant.codes,
                    scales: match quant.scales {
                        Scales::F16(_) => GroupScales::F16(&halves),
                        Scales::F32(_) => GroupScales::F32(&singles),
                    },
                    zero: match &quant.zero {
                        Zero::Middle => GroupZero::Middle,
                        Zero::U8(codes) => GroupZero::U8(codes),
                        Zero::MinF16(_) => GroupZero::MinF16(&minimums),
                    },
                };
                let expected = tensor.dequantize();
                let mut row = vec![0.0; k];
                for i in 0..n {
                    dequantize_row(&panels, i, &mut row);
                    for (got, expected) in row.iter().zip(&expected[i * k..]) {
                        // A kernel may multiply out its zero first.
                        assert!(
                            (got - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                            "{how:?}"
                        );
                    }
                }
            }
        }
    }
}
