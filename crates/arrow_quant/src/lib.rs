//! Weight files (Parquet, schema V1 and V2), zero-copy reading, and INT8/INT4/INT2 quantisation.

mod tensor;

pub use tensor::{Bits, Dtype, Layout, QuantTensor, Scales, Tensor, TensorData, Zero};
