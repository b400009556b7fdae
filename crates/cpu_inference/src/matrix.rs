//! A weight matrix, read as it is stored.

use arrow_quant::{
    Dtype, Grid, Layout, QuantTensor, Quantization, Scales, Tensor, TensorData, Zero, quantize,
};
use bytes::Bytes;
use half::{bf16, f16};
use kernels::{CodeBits, GroupScales, GroupZero, Onto, PlainRows, QuantPanels, ThreadPool};

use crate::error::{InferenceError, Result};
use crate::view::View;

/// Weights `[rows, cols]`.
#[derive(Debug, Clone)]
pub struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    F32(View<f32>),
    F16(View<u16>),
    Bf16(View<u16>),
    Quant(Box<Panels>),
}

#[derive(Debug, Clone)]
struct Panels {
    bits: CodeBits,
    group_size: usize,
    codes: View<u8>,
    scales: StoredScales,
    zero: StoredZero,
}

#[derive(Debug, Clone)]
enum StoredScales {
    F16(View<u16>),
    F32(View<f32>),
}

#[derive(Debug, Clone)]
enum StoredZero {
    Middle,
    U8(View<u8>),
    MinF16(View<u16>),
}

/// What the weights of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    Plain(Dtype),
    /// Codes in groups of so many columns, 0 for whole rows.
    Integers {
        group_size: usize,
    },
}

/// The two forms in which the kernels take a matrix.
pub(crate) enum Operand<'a> {
    Plain(PlainRows<'a>),
    Quant(QuantPanels<'a>),
}

impl Matrix {
    /// Takes a tensor whose shape is known to be `[rows, cols]`; row-major codes are repacked.
    ///
    /// # Errors
    /// [`InferenceError::TensorLayout`]: its parts do not have the lengths that the shape asks for.
    pub fn new(tensor: &Tensor, rows: usize, cols: usize) -> Result<Self> {
        let body = match &tensor.data {
            TensorData::Plain { dtype, data } => {
                expect(
                    tensor,
                    "bytes",
                    rows * cols * dtype.size_bytes(),
                    data.len(),
                )?;
                match dtype {
                    Dtype::F32 => Body::F32(View::new(data.clone())),
                    Dtype::F16 => Body::F16(View::new(data.clone())),
                    Dtype::Bf16 => Body::Bf16(View::new(data.clone())),
                }
            }
            TensorData::Quant(quant) => {
                Body::Quant(Box::new(Panels::new(tensor, quant, rows, cols)?))
            }
        };
        Ok(Self { rows, cols, body })
    }

    /// Those values, in such numbers.
    pub(crate) fn of(
        name: &str,
        values: &[f32],
        rows: usize,
        cols: usize,
        numbers: Numbers,
    ) -> Result<Self> {
        let plain = |dtype, data: Vec<u8>| TensorData::Plain {
            dtype,
            data: data.into(),
        };
        let single = || {
            plain(
                Dtype::F32,
                values.iter().flat_map(|n| n.to_ne_bytes()).collect(),
            )
        };
        let data = match numbers {
            Numbers::Plain(Dtype::F32) => single(),
            // Half precision ends at 65,504.
            Numbers::Plain(Dtype::F16)
                if values.iter().any(|&n| f16::from_f32(n).is_infinite()) =>
            {
                single()
            }
            Numbers::Plain(Dtype::F16) => plain(
                Dtype::F16,
                values
                    .iter()
                    .flat_map(|&n| f16::from_f32(n).to_bits().to_ne_bytes())
                    .collect(),
            ),
            Numbers::Plain(Dtype::Bf16) => plain(
                Dtype::Bf16,
                values
                    .iter()
                    .flat_map(|&n| bf16::from_f32(n).to_bits().to_ne_bytes())
                    .collect(),
            ),
            Numbers::Integers { group_size } => {
                let how = Quantization {
                    bits: CodeBits::Int8,
                    group_size,
                    grid: Grid::Symmetric,
                };
                let codes = quantize(PlainRows::F32(values), rows, cols, how, |_| true);
                TensorData::Quant(codes.map_err(|error| InferenceError::TensorLayout {
                    name: name.to_owned(),
                    detail: error.to_string(),
                })?)
            }
        };
        let tensor = Tensor {
            name: name.to_owned(),
            shape: vec![rows, cols],
            data,
        };
        Self::new(&tensor, rows, cols)
    }

    /// The matrix as the kernels take it.
    pub(crate) fn operand(&self) -> Operand<'_> {
        match &self.body {
            Body::F32(view) => Operand::Plain(PlainRows::F32(view.as_slice())),
            Body::F16(view) => Operand::Plain(PlainRows::F16(view.as_slice())),
            Body::Bf16(view) => Operand::Plain(PlainRows::Bf16(view.as_slice())),
            Body::Quant(panels) => Operand::Quant(panels.operand(self.rows, self.cols)),
        }
    }

    /// What its weights are.
    pub(crate) const fn numbers(&self) -> Numbers {
        match &self.body {
            Body::F32(_) => Numbers::Plain(Dtype::F32),
            Body::F16(_) => Numbers::Plain(Dtype::F16),
            Body::Bf16(_) => Numbers::Plain(Dtype::Bf16),
            Body::Quant(panels) => Numbers::Integers {
                group_size: panels.group_size,
            },
        }
    }

    /// Group size of integer weights, 0 for whole rows; `None` for plain numbers.
    pub(crate) const fn group_size(&self) -> Option<usize> {
        match self.numbers() {
            Numbers::Integers { group_size } => Some(group_size),
            Numbers::Plain(_) => None,
        }
    }

    /// Integer weights as the kernels take them.
    #[must_use]
    pub fn panels(&self) -> Option<QuantPanels<'_>> {
        match self.operand() {
            Operand::Quant(panels) => Some(panels),
            Operand::Plain(_) => None,
        }
    }

    /// Writes `x wᵀ`, onto what there is, to `out`, `[rows, self.rows]`, for plain weights.
    pub(crate) fn multiply_plain(
        &self,
        pool: &ThreadPool,
        x: &[f32],
        onto: Onto<'_>,
        out: &mut [f32],
    ) {
        if let Operand::Plain(weights) = self.operand() {
            let rows = out.len() / self.rows;
            kernels::gemm_plain(pool, x, rows, self.cols, weights, self.rows, onto, out);
        }
    }

    /// Writes row `index` to `out`, `[cols]`.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        let span = index * self.cols..(index + 1) * self.cols;
        match self.operand() {
            Operand::Plain(PlainRows::F32(rows)) => out.copy_from_slice(&rows[span]),
            Operand::Plain(PlainRows::F16(rows)) => kernels::f16_to_f32(&rows[span], out),
            Operand::Plain(PlainRows::Bf16(rows)) => kernels::bf16_to_f32(&rows[span], out),
            Operand::Quant(panels) => kernels::dequantize_row(&panels, index, out),
        }
    }
}

impl Panels {
    fn new(tensor: &Tensor, quant: &QuantTensor, rows: usize, cols: usize) -> Result<Self> {
        let group = if quant.group_size == 0 {
            cols
        } else {
            quant.group_size
        };
        let repack = (quant.layout == Layout::RowMajor).then_some((rows, cols.div_ceil(group)));
        let panels = Self {
            bits: quant.bits,
            group_size: quant.group_size,
            codes: match quant.layout {
                Layout::Panel16 => View::new(quant.codes.clone()),
                Layout::RowMajor => View::from(repacked(tensor, quant, rows, cols)?),
            },
            scales: match &quant.scales {
                Scales::F16(data) => StoredScales::F16(numbers(tensor, data, repack)?),
                Scales::F32(data) => StoredScales::F32(numbers(tensor, data, repack)?),
            },
            zero: match &quant.zero {
                Zero::Middle => StoredZero::Middle,
                Zero::U8(data) => StoredZero::U8(numbers(tensor, data, repack)?),
                Zero::MinF16(data) => StoredZero::MinF16(numbers(tensor, data, repack)?),
            },
        };
        panels
            .operand(rows, cols)
            .check()
            .map_err(|error| InferenceError::TensorLayout {
                name: tensor.name.clone(),
                detail: error.to_string(),
            })?;
        Ok(panels)
    }

    fn operand(&self, rows: usize, cols: usize) -> QuantPanels<'_> {
        QuantPanels {
            n: rows,
            k: cols,
            bits: self.bits,
            group_size: self.group_size,
            codes: self.codes.as_slice(),
            scales: match &self.scales {
                StoredScales::F16(view) => GroupScales::F16(view.as_slice()),
                StoredScales::F32(view) => GroupScales::F32(view.as_slice()),
            },
            zero: match &self.zero {
                StoredZero::Middle => GroupZero::Middle,
                StoredZero::U8(view) => GroupZero::U8(view.as_slice()),
                StoredZero::MinF16(view) => GroupZero::MinF16(view.as_slice()),
            },
        }
    }
}

/// A tensor's group numbers; those of a row-major tensor, `[rows, groups]`, are brought into panel order.
fn numbers<T: crate::view::Number + Default>(
    tensor: &Tensor,
    data: &Bytes,
    repack: Option<(usize, usize)>,
) -> Result<View<T>> {
    let view = View::<T>::new(data.clone());
    let Some((rows, groups)) = repack else {
        return Ok(view);
    };
    expect(
        tensor,
        "scales or zeros",
        rows * groups,
        view.as_slice().len(),
    )?;
    Ok(View::from(kernels::pack_groups(
        view.as_slice(),
        rows,
        groups,
    )))
}

/// Panels from codes packed along each row, lowest bits first.
fn repacked(tensor: &Tensor, quant: &QuantTensor, rows: usize, cols: usize) -> Result<Vec<u8>> {
    let width = quant.bits.width();
    let per_byte = 8 / width;
    let mask = u8::MAX >> (8 - width);
    let row_bytes = cols.div_ceil(per_byte);
    expect(
        tensor,
        "bytes of codes",
        rows * row_bytes,
        quant.codes.len(),
    )?;
    let mut codes = Vec::with_capacity(rows * cols);
    for row in quant.codes.chunks_exact(row_bytes) {
        codes.extend((0..cols).map(|col| (row[col / per_byte] >> (col % per_byte * width)) & mask));
    }
    Ok(kernels::pack_panel16(&codes, rows, cols, quant.bits))
}

fn expect(tensor: &Tensor, what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(InferenceError::TensorBytes {
        name: tensor.name.clone(),
        what,
        expected,
        got,
    })
}
