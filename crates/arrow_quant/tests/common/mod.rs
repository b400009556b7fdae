//! A small file with every kind of tensor.
#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_quant::{
    CodeBits, Dtype, Grid, PlainRows, Quantization, Tensor, TensorData, WeightWriter, quantize,
};

pub fn values(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 37 + 11) % 101) as f32 / 17.0 - 2.5)
        .collect()
}

pub fn plain(name: &str, shape: &[usize], dtype: Dtype) -> Tensor {
    let len = shape.iter().product();
    let data: Vec<u8> = match dtype {
        Dtype::F32 => values(len)
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        _ => (0..len).flat_map(|i| (i as u16).to_le_bytes()).collect(),
    };
    let data = TensorData::Plain {
        dtype,
        data: data.into(),
    };
    Tensor::new(name, shape.to_vec(), data).unwrap()
}

pub fn quantized(name: &str, n: usize, k: usize, how: Quantization) -> Tensor {
    let quant = quantize(PlainRows::F32(&values(n * k)), n, k, how, |_| true).unwrap();
    Tensor::new(name, vec![n, k], TensorData::Quant(quant)).unwrap()
}

pub fn tensors() -> Vec<Tensor> {
    let how = |bits, group_size, grid| Quantization {
        bits,
        group_size,
        grid,
    };
    vec![
        plain("norm", &[7], Dtype::F32),
        plain("half", &[3, 5], Dtype::F16),
        plain("brain", &[2, 2, 2], Dtype::Bf16),
        plain("empty", &[0, 4], Dtype::F32),
        plain("scalar", &[], Dtype::F32),
        quantized("int8", 5, 32, how(CodeBits::Int8, 0, Grid::Symmetric)),
        quantized("int4", 17, 64, how(CodeBits::Int4, 32, Grid::Minimum)),
        quantized("int2", 3, 32, how(CodeBits::Int2, 32, Grid::Asymmetric)),
    ]
}

pub fn write(path: &Path, tensors: &[Tensor]) {
    let metadata = BTreeMap::from([("note".to_owned(), "kept".to_owned())]);
    let mut writer = WeightWriter::create(path, 2, metadata).unwrap();
    for tensor in tensors {
        writer.add(tensor).unwrap();
    }
    writer.finish().unwrap();
}
