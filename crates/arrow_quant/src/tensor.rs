//! What a stored tensor is, once its bytes are known to be sound.

use bytes::Bytes;

/// Element type of an unquantised tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// Brain float: the upper half of an `F32`.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Width of a quantised code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bits {
    /// 256 levels.
    Int8,
    /// 16 levels.
    Int4,
    /// 4 levels.
    Int2,
}

impl Bits {
    /// Bits of one code.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
            Self::Int2 => 2,
        }
    }
}

/// Order of the codes in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[n, k]`, packed along `k`, lowest bits first.
    RowMajor,
    /// `[n / 16, k / (4 * per_byte), 16, 4]`: the order the kernels read.
    ///
    /// One 64-byte step holds 16 rows by `4 * per_byte` columns. In byte `i` of a row's four, bits
    /// `[b * width, (b + 1) * width)` hold column `step * 4 * per_byte + 4 * b + i`, so masking and
    /// shifting a step yields `per_byte` operands of the 4-way dot-product instructions. `n` is
    /// padded to 16 and `k` to `4 * per_byte`; padding codes are zero.
    Panel16,
}

/// Where a group's value zero lies. A weight is `scale * (code - zero)` or `scale * code + min`.
#[derive(Debug, Clone)]
pub enum Zero {
    /// The middle code, `2^(width - 1)`.
    Middle,
    /// One unsigned byte per group.
    U8(Bytes),
    /// One half-precision minimum per group, in units of the weight (the form of GGUF's `Q4_1`).
    MinF16(Bytes),
}

/// Scales of the groups, in the order `[n / 16, groups, 16]` for `Panel16` and `[n, groups]` for `RowMajor`.
#[derive(Debug, Clone)]
pub enum Scales {
    /// Half precision, native endian words.
    F16(Bytes),
    /// Single precision.
    F32(Bytes),
}

/// A quantised matrix `[n, k]`: unsigned codes with a scale and a zero per row and group of columns.
#[derive(Debug, Clone)]
pub struct QuantTensor {
    /// Width of a code.
    pub bits: Bits,
    /// Columns that share a scale; 0 is the whole row.
    pub group_size: usize,
    /// Order of the codes.
    pub layout: Layout,
    /// Packed codes.
    pub codes: Bytes,
    /// Scales.
    pub scales: Scales,
    /// Zeros, in the order of the scales.
    pub zero: Zero,
}

/// The bytes of a tensor.
#[derive(Debug, Clone)]
pub enum TensorData {
    /// Row-major elements.
    Plain {
        /// Element type.
        dtype: Dtype,
        /// `product(shape) * size_bytes` bytes.
        data: Bytes,
    },
    /// Quantised matrix.
    Quant(QuantTensor),
}

/// A named tensor. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name as the model's source spells it.
    pub name: String,
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: TensorData,
}
