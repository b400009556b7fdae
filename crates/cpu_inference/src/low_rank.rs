//! Low-rank factors of cards, computed beside the layer that they add to.

use std::ops::Range;

use arrow_quant::{Dtype, Grid, Quantization, Tensor, TensorData, quantize};
use half::{bf16, f16};
use kernels::{
    CodeBits, Onto, PlainRows, QuantPanels, QuantProduct, QuantRows, Terms, ThreadPool, fit,
};
use smallvec::SmallVec;

use crate::error::{InferenceError, Result};
use crate::matrix::{Matrix, Numbers};

/// Runs of rows whose products are listed without allocating: as many cards as a batch often mixes.
const RUNS: usize = 8;

/// `B A`, what cards add to one layer, their weights and scales in it.
#[derive(Debug)]
pub(crate) struct Factors {
    /// `[rank, inputs]`.
    a: Matrix,
    /// `[outputs, rank]`.
    b: Matrix,
}

/// Factors while cards are gathered: those of several stand side by side, as one of a larger rank.
#[derive(Debug)]
pub(crate) struct Gathered {
    inputs: usize,
    outputs: usize,
    /// Rows of A, those of one card behind those of another.
    a: Vec<f32>,
    /// By card: its rank and its B, `[outputs, rank]`.
    b: Vec<(usize, Vec<f32>)>,
}

/// Rows that use the same factors.
pub(crate) type Run<'a> = (Range<usize>, &'a Factors);

/// Memory in which products of factors are computed.
#[derive(Debug, Default)]
pub(crate) struct LowRankBuffers {
    /// `A x`, `[rows, rank]` of each run.
    narrow: Vec<f32>,
    /// The same as integers, runs of one rank together.
    rounded: Vec<QuantRows>,
}

impl Gathered {
    pub(crate) const fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            a: Vec::new(),
            b: Vec::new(),
        }
    }

    /// Adds `scale · B A`, of `a`, `[rank, inputs]`, and `b`, `[outputs, rank]`.
    ///
    /// Only the product of a row of A and its column of B counts. Rows take the length 1, so that what they make
    /// of an input is of one size, and what rounding takes from that falls evenly.
    pub(crate) fn push(&mut self, a: &[f32], mut b: Vec<f32>, scale: f32) {
        if scale == 0.0 {
            return;
        }
        let rows = a.chunks_exact(self.inputs);
        let length = |row: &[f32]| {
            row.iter()
                .map(|&n| f64::from(n).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let lengths: Vec<f64> = rows.clone().map(length).collect();
        for (row, &length) in rows.zip(&lengths) {
            // A row of zeros stays one.
            let by = 1.0 / length.max(f64::MIN_POSITIVE);
            self.a
                .extend(row.iter().map(|&n| (f64::from(n) * by) as f32));
        }
        let by: Vec<f64> = lengths.iter().map(|n| n * f64::from(scale)).collect();
        for row in b.chunks_exact_mut(by.len()) {
            for (n, by) in row.iter_mut().zip(&by) {
                *n = (f64::from(*n) * by) as f32;
            }
        }
        self.b.push((by.len(), b));
    }

    /// The factors in the numbers of their layer; nothing if no card adds anything.
    ///
    /// # Errors
    /// The products are beyond single precision, or integers in groups that nothing else can be rounded in.
    pub(crate) fn finish(self, layer: &str, numbers: Numbers) -> Result<Option<Factors>> {
        let Self {
            inputs,
            outputs,
            a,
            b: cards,
        } = self;
        let rank = a.len() / inputs;
        if rank == 0 {
            return Ok(None);
        }
        let mut b = Vec::with_capacity(outputs * rank);
        for o in 0..outputs {
            for (rank, card) in &cards {
                b.extend_from_slice(&card[o * rank..][..*rank]);
            }
        }
        if !b.iter().all(|number| number.is_finite()) {
            return Err(InferenceError::NotFinite {
                what: "products of a card's factors",
            });
        }
        // What A makes is rounded anew, by the whole row.
        let own = match numbers {
            Numbers::Integers { .. } => Numbers::Integers { group_size: 0 },
            plain @ Numbers::Plain(_) => plain,
        };
        Ok(Some(Factors {
            a: matrix(&format!("{layer}.lora_A"), &a, rank, inputs, numbers)?,
            b: matrix(&format!("{layer}.lora_B"), &b, outputs, rank, own)?,
        }))
    }
}

fn matrix(
    name: &str,
    values: &[f32],
    rows: usize,
    cols: usize,
    numbers: Numbers,
) -> Result<Matrix> {
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
        Numbers::Plain(Dtype::F16) if values.iter().any(|&n| f16::from_f32(n).is_infinite()) => {
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
    Matrix::new(&tensor, rows, cols)
}

/// A run whose factors are integers: its rows, `[rank, inputs]` and `[outputs, rank]`.
type QuantRun<'a> = (Range<usize>, QuantPanels<'a>, QuantPanels<'a>);

fn quant_runs<'a>(runs: impl Iterator<Item = Run<'a>>) -> SmallVec<[QuantRun<'a>; RUNS]> {
    let panels = |(rows, factors): Run<'a>| Some((rows, factors.a.panels()?, factors.b.panels()?));
    runs.filter_map(panels).collect()
}

impl LowRankBuffers {
    /// Writes `x wᵀ + bias` to `out`, `[rows, w.n]`, and adds what the `runs` add to their rows, which ascend.
    ///
    /// What the layer gives and what the first factors give are computed side by side, then the second factors.
    pub(crate) fn project_quant<'a>(
        &mut self,
        pool: &ThreadPool,
        x: &QuantRows,
        (w, bias): (QuantPanels<'_>, Option<&[f32]>),
        runs: impl Iterator<Item = Run<'a>>,
        out: &mut [f32],
    ) {
        let runs = quant_runs(runs);
        let layer = QuantProduct::new(x, 0..x.rows(), w, bias.into(), &mut *out);
        self.narrow(pool, x, &runs, Some(layer));
        self.widen(pool, &runs, out);
    }

    /// Adds to `out`, `[rows, outputs]`, what the `runs` add to their rows of `x`.
    pub(crate) fn add_quant<'a>(
        &mut self,
        pool: &ThreadPool,
        x: &QuantRows,
        runs: impl Iterator<Item = Run<'a>>,
        out: &mut [f32],
    ) {
        let runs = quant_runs(runs);
        self.narrow(pool, x, &runs, None);
        self.widen(pool, &runs, out);
    }

    /// Computes `A x` of each run, beside the product of the layer if it is given.
    fn narrow(
        &mut self,
        pool: &ThreadPool,
        x: &QuantRows,
        runs: &[QuantRun<'_>],
        layer: Option<QuantProduct<'_>>,
    ) {
        let numbers = runs.iter().map(|(rows, a, _)| rows.len() * a.n).sum();
        let mut narrow = fit(&mut self.narrow, numbers);
        let mut products: SmallVec<[_; RUNS + 1]> = layer.into_iter().collect();
        for (rows, a, _) in runs {
            let own;
            (own, narrow) = std::mem::take(&mut narrow).split_at_mut(rows.len() * a.n);
            products.push(QuantProduct::new(x, rows.clone(), *a, Onto::Nothing, own));
        }
        kernels::gemm_quant_all(pool, &products);
    }

    /// Adds `B` times what [`narrow`](Self::narrow) computed to the rows of each run.
    fn widen(&mut self, pool: &ThreadPool, runs: &[QuantRun<'_>], out: &mut [f32]) {
        let Self { narrow, rounded } = self;
        let alike = || runs.chunk_by(|(_, a, _), (_, b, _)| a.n == b.n);
        rounded.resize_with(rounded.len().max(alike().count()), QuantRows::new);
        let mut narrow = &narrow[..];
        for (runs, rounded) in alike().zip(&mut *rounded) {
            let rank = runs[0].1.n;
            let rows = runs.iter().map(|(rows, ..)| rows.len()).sum::<usize>();
            let own;
            (own, narrow) = narrow.split_at(rows * rank);
            let copy =
                |row: usize, values: &mut [f32]| values.copy_from_slice(&own[row * rank..][..rank]);
            rounded.quantize_with(pool, (rows, rank), 0, Terms::One, copy);
        }
        let mut products: SmallVec<[_; RUNS]> = SmallVec::new();
        let (mut left, mut begin) = (out, 0);
        for (runs, rounded) in alike().zip(&*rounded) {
            let mut first = 0;
            for (rows, _, b) in runs {
                let (_, behind) =
                    std::mem::take(&mut left).split_at_mut((rows.start - begin) * b.n);
                let own;
                (own, left) = behind.split_at_mut(rows.len() * b.n);
                begin = rows.end;
                let part = first..first + rows.len();
                first = part.end;
                products.push(QuantProduct::new(rounded, part, *b, Onto::Out, own));
            }
        }
        kernels::gemm_quant_all(pool, &products);
    }

    /// Adds to `out`, `[rows, outputs]`, what the `runs` add to their rows of `x`, `[rows, inputs]`.
    pub(crate) fn add_plain<'a>(
        &mut self,
        pool: &ThreadPool,
        x: &[f32],
        runs: impl Iterator<Item = Run<'a>>,
        out: &mut [f32],
    ) {
        for (rows, Factors { a, b }) in runs {
            let narrow = fit(&mut self.narrow, rows.len() * a.rows);
            let part = |width: usize| rows.start * width..rows.end * width;
            a.multiply_plain(pool, &x[part(a.cols)], Onto::Nothing, narrow);
            b.multiply_plain(pool, narrow, Onto::Out, &mut out[part(b.rows)]);
        }
    }
}
