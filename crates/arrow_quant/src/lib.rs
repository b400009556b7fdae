//! Weight files (Parquet, schema V1 and V2), zero-copy reading, and INT8/INT4/INT2 quantisation.
//!
//! A [`WeightFile`] maps a file and hands out [`Tensor`]s whose bytes lie in the map; a
//! [`WeightWriter`] streams tensors into a new file that appears whole or not at all;
//! [`quantize`] and [`Tensor::dequantize`] go between floats and packed codes. The bytes of the
//! file are drawn in `docs/formats/weights.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod aligned;
mod decode;
mod dequantize;
mod error;
mod file;
mod footer;
mod half_step;
mod levels;
mod pack;
mod page;
mod parallel;
mod quantize;
mod spec;
mod stream;
mod tensor;
mod thrift;
mod writer;

pub use dequantize::Memory;
pub use error::WeightFileError;
pub use file::WeightFile;
pub use kernels::{pack_panel16, unpack_panel16};
pub use pack::packed_len;
pub use quantize::{Grid, Quantization, quantize};
pub use tensor::{
    CodeBits, Dtype, Layout, PlainRows, QuantTensor, Scales, Tensor, TensorData, Zero,
};
pub use writer::WeightWriter;
