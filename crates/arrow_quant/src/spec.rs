//! The words of a table row, checked: what a tensor must look like before its bytes are touched.

use bytes::Bytes;
use kernels::PANEL_ROWS;

use crate::error::{Result, WeightFileError};
use crate::pack::packed_len;
use crate::tensor::{
    CodeBits, Dtype, Layout, QuantTensor, Scales, Tensor, TensorData, Zero, groups,
};

/// Names of the binary columns, in the order of [`Tensor::parts`].
pub const PARTS: [&str; 3] = ["data", "scales", "zero_points"];

/// A row of the table without its bytes, as written.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub shape: Vec<i64>,
    pub dtype: String,
    /// Absent in schema V1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant_type: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub group_size: i64,
    #[serde(default = "plain_axis", skip_serializing_if = "is_plain_axis")]
    pub quant_axis: i64,
    /// What the ten columns leave open; absent for plain tensors and in foreign files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_dtype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_point: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_zero(value: &i64) -> bool {
    *value == 0
}

const fn plain_axis() -> i64 {
    -1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_plain_axis(value: &i64) -> bool {
    *value == -1
}

/// A checked description: lengths follow from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
}

/// How the bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain(Dtype),
    Quant {
        bits: CodeBits,
        group_size: usize,
        layout: Layout,
        scales: ScaleDtype,
        zero: ZeroKind,
        /// One scale for the whole tensor, to be repeated for each row.
        per_tensor: bool,
    },
}

impl Kind {
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::Quant { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleDtype {
    F16,
    F32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroKind {
    Middle,
    U8,
    MinF16,
}

/// A closed set of words, each standing for a value.
struct Words<T: 'static> {
    field: &'static str,
    listed: &'static str,
    known: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq> Words<T> {
    fn read(&self, word: &str, subject: &str) -> Result<T> {
        self.known
            .iter()
            .find(|(listed, _)| *listed == word)
            .map(|&(_, value)| value)
            .ok_or_else(|| WeightFileError::Unknown {
                subject: subject.to_owned(),
                field: self.field,
                got: word.to_owned(),
                expected: self.listed,
            })
    }

    fn write(&self, value: T) -> String {
        let word = self.known.iter().find(|(_, listed)| *listed == value);
        word.map(|&(word, _)| word.to_owned()).unwrap_or_default()
    }
}

const DTYPES: Words<Dtype> = Words {
    field: "dtype",
    listed: "float32, float16, bfloat16",
    known: &[
        ("float32", Dtype::F32),
        ("float16", Dtype::F16),
        ("bfloat16", Dtype::Bf16),
    ],
};
const QUANT_TYPES: Words<Option<CodeBits>> = Words {
    field: "quant_type",
    listed: "int8, int4, int2, fp32, fp16, bf16",
    known: &[
        ("int8", Some(CodeBits::Int8)),
        ("int4", Some(CodeBits::Int4)),
        ("int2", Some(CodeBits::Int2)),
        ("fp32", None),
        ("fp16", None),
        ("bf16", None),
    ],
};
const PACKINGS: Words<Layout> = Words {
    field: "packing",
    listed: "panel16, row_major",
    known: &[
        ("panel16", Layout::Panel16),
        ("row_major", Layout::RowMajor),
    ],
};
const SCALE_DTYPES: Words<ScaleDtype> = Words {
    field: "scale_dtype",
    listed: "float16, float32",
    known: &[("float16", ScaleDtype::F16), ("float32", ScaleDtype::F32)],
};
const ZERO_POINTS: Words<ZeroKind> = Words {
    field: "zero_point",
    listed: "middle, uint8, minimum_float16",
    known: &[
        ("middle", ZeroKind::Middle),
        ("uint8", ZeroKind::U8),
        ("minimum_float16", ZeroKind::MinF16),
    ],
};
const AXES: Words<bool> = Words {
    field: "quant_axis",
    listed: "-1, 0",
    known: &[("-1", true), ("0", false)],
};

impl Row {
    /// Checks every word and the shape.
    pub fn check(&self) -> Result<Spec> {
        let subject = || format!("tensor {:?}", self.name);
        let bits = self
            .quant_type
            .as_deref()
            .map(|word| QUANT_TYPES.read(word, &subject()))
            .transpose()?;
        let kind = match bits.flatten() {
            None => Kind::Plain(DTYPES.read(self.dtype.trim_start_matches("torch."), &subject())?),
            Some(bits) => {
                let read_or = |word: &Option<String>, default: &str| {
                    word.clone().unwrap_or(default.to_owned())
                };
                Kind::Quant {
                    bits,
                    group_size: usize::try_from(self.group_size)
                        .map_err(|_| self.bad_shape("has a negative group size"))?,
                    layout: PACKINGS.read(&read_or(&self.packing, "row_major"), &subject())?,
                    scales: SCALE_DTYPES
                        .read(&read_or(&self.scale_dtype, "float32"), &subject())?,
                    zero: ZERO_POINTS.read(&read_or(&self.zero_point, "middle"), &subject())?,
                    per_tensor: AXES.read(&self.quant_axis.to_string(), &subject())?,
                }
            }
        };
        let shape: Option<Vec<usize>> = self
            .shape
            .iter()
            .map(|&axis| usize::try_from(axis).ok())
            .collect();
        let shape = shape.ok_or_else(|| self.bad_shape("has a negative axis"))?;
        // A zero axis must not hide an overflow of the others.
        let elements = shape
            .iter()
            .try_fold(4_usize, |product, &axis| product.checked_mul(axis.max(1)));
        if elements.is_none_or(|bytes| bytes > isize::MAX as usize / 64) || shape.len() > 8 {
            return Err(self.bad_shape("is too large to address"));
        }
        if kind.is_quantized() && shape.len() < 2 {
            return Err(self.bad_shape("is quantised; expected at least two axes"));
        }
        Ok(Spec {
            name: self.name.clone(),
            shape,
            kind,
        })
    }

    /// What the columns of the table hold too.
    pub fn columns(&self) -> (&str, &[i64], &str, Option<&str>, i64, i64) {
        (
            &self.name,
            &self.shape,
            &self.dtype,
            self.quant_type.as_deref(),
            self.group_size,
            self.quant_axis,
        )
    }

    fn bad_shape(&self, problem: &'static str) -> WeightFileError {
        WeightFileError::Shape {
            tensor: self.name.clone(),
            shape: self.shape.clone(),
            problem,
        }
    }
}

impl Spec {
    /// The description of a tensor in memory.
    pub fn of(tensor: &Tensor) -> Self {
        let kind = match &tensor.data {
            TensorData::Plain { dtype, .. } => Kind::Plain(*dtype),
            TensorData::Quant(quant) => Kind::Quant {
                bits: quant.bits,
                group_size: quant.group_size,
                layout: quant.layout,
                scales: match quant.scales {
                    Scales::F16(_) => ScaleDtype::F16,
                    Scales::F32(_) => ScaleDtype::F32,
                },
                zero: match quant.zero {
                    Zero::Middle => ZeroKind::Middle,
                    Zero::U8(_) => ZeroKind::U8,
                    Zero::MinF16(_) => ZeroKind::MinF16,
                },
                per_tensor: false,
            },
        };
        Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            kind,
        }
    }

    /// The words for a table row; schema V1 has no quantisation columns.
    pub fn row(&self, schema_version: u8, crc32c: u32) -> Row {
        let mut row = Row {
            name: self.name.clone(),
            shape: self.shape.iter().map(|&axis| axis as i64).collect(),
            quant_axis: -1,
            crc32c: Some(format!("{crc32c:08x}")),
            ..Row::default()
        };
        match self.kind {
            Kind::Plain(dtype) => {
                row.dtype = DTYPES.write(dtype);
                let quant_type = match dtype {
                    Dtype::F32 => "fp32",
                    Dtype::F16 => "fp16",
                    Dtype::Bf16 => "bf16",
                };
                row.quant_type = (schema_version > 1).then(|| quant_type.to_owned());
            }
            Kind::Quant {
                bits,
                group_size,
                layout,
                scales,
                zero,
                ..
            } => {
                // What the tensor is once dequantised.
                row.dtype = DTYPES.write(Dtype::F32);
                row.quant_type = Some(QUANT_TYPES.write(Some(bits)));
                row.quant_axis = 0;
                row.group_size = group_size as i64;
                row.packing = Some(PACKINGS.write(layout));
                row.scale_dtype = Some(SCALE_DTYPES.write(scales));
                row.zero_point = Some(ZERO_POINTS.write(zero));
            }
        }
        row
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn matrix(&self) -> (usize, usize) {
        (self.shape[0], self.shape[1..].iter().product())
    }

    /// Bytes of data, scales and zero points.
    pub fn lengths(&self) -> [u64; 3] {
        match self.kind {
            Kind::Plain(dtype) => [(self.elements() * dtype.size_bytes()) as u64, 0, 0],
            Kind::Quant {
                bits,
                group_size,
                layout,
                scales,
                zero,
                per_tensor,
            } => {
                let (n, k) = self.matrix();
                let scale_size = match scales {
                    ScaleDtype::F16 => 2,
                    ScaleDtype::F32 => 4,
                };
                let zero_size = match zero {
                    ZeroKind::Middle => 0,
                    ZeroKind::U8 => 1,
                    ZeroKind::MinF16 => 2,
                };
                let rows = match layout {
                    Layout::RowMajor => n as u128,
                    Layout::Panel16 => n.div_ceil(PANEL_ROWS) as u128 * PANEL_ROWS as u128,
                };
                let count = if per_tensor {
                    1
                } else {
                    rows * groups(k, group_size) as u128
                };
                let bytes = |size: u128| u64::try_from(count * size).unwrap_or(u64::MAX);
                let data = packed_len(n, k, bits, layout).map_or(u64::MAX, |len| len as u64);
                [data, bytes(scale_size), bytes(zero_size)]
            }
        }
    }

    /// Checks that data, scales and zero points are as long as [`Spec::lengths`] says.
    pub fn check_lengths(&self, parts: [&[u8]; 3]) -> Result<()> {
        for ((part, bytes), expected) in PARTS.into_iter().zip(parts).zip(self.lengths()) {
            if bytes.len() as u64 != expected {
                return Err(self.wrong_length(part, expected, bytes.len() as u64));
            }
        }
        Ok(())
    }

    /// Joins the description with its bytes.
    pub fn attach(self, parts: [Bytes; 3]) -> Result<Tensor> {
        self.check_lengths([&parts[0], &parts[1], &parts[2]])?;
        let rows = self.shape.first().copied().unwrap_or_default();
        let [data, scales, zeros] = parts;
        let data = match self.kind {
            Kind::Plain(dtype) => TensorData::Plain { dtype, data },
            Kind::Quant {
                bits,
                group_size,
                layout,
                scales: scale_dtype,
                zero,
                per_tensor,
            } => {
                let spread = |bytes: Bytes| {
                    if per_tensor {
                        crate::aligned::copied(&bytes.repeat(rows))
                    } else {
                        bytes
                    }
                };
                let (scales, zeros) = (spread(scales), spread(zeros));
                TensorData::Quant(QuantTensor {
                    bits,
                    group_size: if per_tensor { 0 } else { group_size },
                    layout,
                    codes: data,
                    scales: match scale_dtype {
                        ScaleDtype::F16 => Scales::F16(scales),
                        ScaleDtype::F32 => Scales::F32(scales),
                    },
                    zero: match zero {
                        ZeroKind::Middle => Zero::Middle,
                        ZeroKind::U8 => Zero::U8(zeros),
                        ZeroKind::MinF16 => Zero::MinF16(zeros),
                    },
                })
            }
        };
        Ok(Tensor {
            name: self.name,
            shape: self.shape,
            data,
        })
    }

    fn wrong_length(&self, part: &'static str, expected: u64, got: u64) -> WeightFileError {
        let what = match self.kind {
            Kind::Plain(dtype) => format!("{} {:?}", DTYPES.write(dtype), self.shape),
            Kind::Quant {
                bits, group_size, ..
            } => {
                format!(
                    "{} {:?}, group size {group_size}",
                    QUANT_TYPES.write(Some(bits)),
                    self.shape
                )
            }
        };
        WeightFileError::Length {
            tensor: self.name.clone(),
            part,
            what,
            expected,
            got,
        }
    }
}
