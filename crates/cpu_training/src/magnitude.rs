//! Rows whose lengths are learned apart from their directions: `m / ‖W + scaling · B A‖` of a layer's outputs.
//!
//! Source: `DoRA`, arXiv:2402.09353; to the gradient the norms are constants (section 4.3).

use kernels::{Onto, ThreadPool};

use crate::buffers::{Buffer, fit, for_each_row};
use crate::parameters::Parameter;

/// What was scaled on the way forth, for the way back.
#[derive(Debug)]
pub(crate) struct Scaled {
    /// `W x + scaling · B (A x)`, `[rows, outputs]`.
    unscaled: Buffer,
    /// `[outputs]`.
    norms: Vec<f32>,
}

/// Lengths of the rows of `W + scaling · B A`, `[outputs]`, of `a`, `[rank, inputs]`, and `b`, `[outputs, rank]`.
pub(crate) fn norms(
    pool: &ThreadPool,
    weights: &[f32],
    [a, b]: [&Parameter; 2],
    scaling: f32,
    sums: &mut Vec<f32>,
) -> Vec<f32> {
    let ((rank, inputs), (outputs, _)) = (a.matrix(), b.matrix());
    let (a, b) = (&a.values, &b.values);
    let sums = fit(sums, weights.len());
    kernels::gemm_back(pool, b, outputs, rank, a, inputs, Onto::Nothing, sums);
    let mut norms = vec![0.0; outputs];
    for_each_row(pool, outputs, [sums, &mut norms], |row, [sum, norm]| {
        kernels::scale(scaling, sum);
        kernels::add(&weights[row * inputs..][..inputs], sum);
        norm[0] = kernels::dot_f32(sum, sum).sqrt();
    });
    norms
}

impl Scaled {
    /// Scales `y`, `[rows, outputs]`, in its place; `unscaled` is a copy of it.
    pub(crate) fn new(
        pool: &ThreadPool,
        magnitude: &Parameter,
        norms: Vec<f32>,
        unscaled: Buffer,
        y: &mut [f32],
    ) -> Self {
        scale_rows(pool, &magnitude.values, &norms, y);
        Self { unscaled, norms }
    }

    /// Makes of `scaled`, a copy of the gradient of what was scaled, `[rows, outputs]`, that of what it was; adds to the
    /// magnitude's.
    pub(crate) fn backward(
        &self,
        pool: &ThreadPool,
        magnitude: &mut Parameter,
        dy: &[f32],
        scaled: &mut [f32],
    ) {
        let Self { unscaled, norms } = self;
        let outputs = norms.len();
        for (dy, unscaled) in dy.chunks_exact(outputs).zip(unscaled.chunks_exact(outputs)) {
            let terms = dy.iter().zip(unscaled).zip(norms);
            for (gradient, ((dy, unscaled), norm)) in magnitude.gradient.iter_mut().zip(terms) {
                *gradient += dy * unscaled / norm;
            }
        }
        scale_rows(pool, &magnitude.values, norms, scaled);
    }
}

fn scale_rows(pool: &ThreadPool, magnitude: &[f32], norms: &[f32], x: &mut [f32]) {
    for_each_row(pool, x.len() / norms.len(), [x], |_, [row]| {
        for (x, (magnitude, norm)) in row.iter_mut().zip(magnitude.iter().zip(norms)) {
            *x *= magnitude / norm;
        }
    });
}
