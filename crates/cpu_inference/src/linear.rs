//! Linear layers and the input they share.

use kernels::{QuantRows, ThreadPool};

use crate::matrix::{Matrix, Operand};

/// `y = x Wᵀ + b`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// Rows that several layers multiply.
///
/// Layers with integer weights need the rows as integers: they are quantised by the first layer that
/// asks and reused by the others of the same group size (query, key and value; gate and up).
pub(crate) struct Input<'a> {
    x: &'a [f32],
    rows: usize,
    cols: usize,
    quantised: &'a mut QuantRows,
    group_size: Option<usize>,
}

impl<'a> Input<'a> {
    /// `x` is `[rows, cols]`; `quantised` is a buffer to reuse.
    pub(crate) fn new(
        x: &'a [f32],
        rows: usize,
        cols: usize,
        quantised: &'a mut QuantRows,
    ) -> Self {
        Self {
            x: &x[..rows * cols],
            rows,
            cols,
            quantised,
            group_size: None,
        }
    }

    /// Writes `x Wᵀ + b` to `out`, `[rows, weight.rows]`.
    pub(crate) fn project(&mut self, pool: &ThreadPool, layer: &Linear, out: &mut [f32]) {
        self.multiply(pool, &layer.weight, layer.bias.as_deref(), out);
    }

    /// Writes `x Wᵀ + b` to `out`, `[rows, weight.rows]`.
    pub(crate) fn multiply(
        &mut self,
        pool: &ThreadPool,
        weight: &Matrix,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let out = &mut out[..self.rows * weight.rows];
        match weight.operand() {
            Operand::Plain(rows) => {
                kernels::gemm_plain(
                    pool,
                    self.x,
                    self.rows,
                    self.cols,
                    rows,
                    weight.rows,
                    bias,
                    out,
                );
            }
            Operand::Quant(panels) => {
                if self.group_size != Some(panels.group_size) {
                    self.quantised
                        .quantize(self.x, self.rows, self.cols, panels.group_size);
                    self.group_size = Some(panels.group_size);
                }
                kernels::gemm_quant(pool, self.quantised, &panels, bias, out);
            }
        }
    }
}
