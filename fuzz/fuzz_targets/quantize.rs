//! Any weights: quantised without a crash, and back within half a step.

#![no_main]

use arrow_quant::{CodeBits, Grid, PlainRows, Quantization, Scales, Tensor, TensorData, quantize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let bits = [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2][usize::from(choice) % 3];
    let grid = [Grid::Symmetric, Grid::Asymmetric, Grid::Minimum][usize::from(choice) / 3 % 3];
    let group_size = [0, 32][usize::from(choice) / 9 % 2];
    let k = 32;
    let words = data
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let mut weights: Vec<f32> = words.collect();
    let n = weights.len() / k;
    weights.truncate(n * k);
    let how = Quantization {
        bits,
        group_size,
        grid,
    };
    let Ok(quant) = quantize(PlainRows::F32(&weights), n, k, how, |_| true) else {
        return;
    };
    let largest = match &quant.scales {
        Scales::F32(bytes) => bytes
            .chunks_exact(4)
            .map(|scale| f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]).abs())
            .fold(0.0, f32::max),
        _ => 65504.0,
    };
    let Ok(tensor) = Tensor::new("w", vec![n, k], TensorData::Quant(quant)) else {
        panic!("bad lengths")
    };
    for (got, weight) in tensor.dequantize().iter().zip(&weights) {
        let error = (f64::from(*got) - f64::from(*weight)).abs();
        let arithmetic = (f64::from(weight.abs()) + 65504.0 + f64::from(largest) * 256.0) * 1e-6;
        assert!(
            error <= f64::from(largest) * 0.5 + arithmetic,
            "{weight} became {got}"
        );
    }
});
