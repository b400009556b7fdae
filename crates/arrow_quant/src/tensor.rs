//! What a stored tensor is, once its bytes are known to be sound.

use bytes::Bytes;
pub use kernels::{CodeBits, PlainRows};

use crate::error::Result;
use crate::spec::Spec;

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
    /// Half precision, little endian.
    F16(Bytes),
    /// Single precision, little endian.
    F32(Bytes),
}

/// A quantised matrix `[n, k]`: unsigned codes with a scale and a zero per row and group of columns.
#[derive(Debug, Clone)]
pub struct QuantTensor {
    /// Width of a code.
    pub bits: CodeBits,
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

impl Tensor {
    /// Joins shape and bytes.
    ///
    /// # Errors
    /// `Shape` and `Length`, if the bytes do not fit the shape.
    pub fn new(name: &str, shape: Vec<usize>, data: TensorData) -> Result<Self> {
        let tensor = Self {
            name: name.to_owned(),
            shape,
            data,
        };
        let spec = Spec::of(&tensor);
        spec.row(2, 0).check()?.check_lengths(tensor.parts())?;
        Ok(tensor)
    }

    /// Number of weights.
    #[must_use]
    pub fn num_params(&self) -> usize {
        self.shape.iter().product()
    }

    /// The matrix the tensor is quantised and multiplied as: the first axis by all others.
    #[must_use]
    pub fn matrix(&self) -> (usize, usize) {
        match self.shape.split_first() {
            Some((&rows, rest)) => (rows, rest.iter().product()),
            None => (1, 1),
        }
    }

    /// Bytes of the stored values: data, scales and zero points.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Data, scales and zero points; what is absent is empty.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 3] {
        match &self.data {
            TensorData::Plain { data, .. } => [data, &[], &[]],
            TensorData::Quant(quant) => [&quant.codes, quant.scales.bytes(), quant.zero.bytes()],
        }
    }

    /// Checksum of data, scales and zero points, one after the other.
    #[must_use]
    pub fn crc32c(&self) -> u32 {
        self.parts()
            .iter()
            .fold(0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

impl Dtype {
    /// The name in weight files, and `NumPy`'s.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

impl Scales {
    /// The stored bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        match self {
            Self::F16(bytes) | Self::F32(bytes) => bytes,
        }
    }
}

impl Zero {
    /// The stored bytes; none for the middle code.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        match self {
            Self::Middle => &NONE,
            Self::U8(bytes) | Self::MinF16(bytes) => bytes,
        }
    }
}

impl QuantTensor {
    /// Scales of one row.
    #[must_use]
    pub const fn groups(&self, k: usize) -> usize {
        groups(k, self.group_size)
    }
}

/// Scales of a row of `k` columns.
pub(crate) const fn groups(k: usize, group_size: usize) -> usize {
    if group_size == 0 {
        1
    } else {
        k.div_ceil(group_size)
    }
}
