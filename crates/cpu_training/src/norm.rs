//! Root mean square norms and their gradients.
//!
//! Source: arXiv:1910.07467.

use kernels::ThreadPool;

use crate::buffers::for_each_row;
use crate::parameters::Parameter;

/// `y = x / sqrt(mean(x²) + eps) · gamma`, row by row.
#[derive(Debug)]
pub(crate) struct Norm {
    gamma: Vec<f32>,
    eps: f32,
    /// Where among the parameters it is, if it is trained.
    pub(crate) parameter: Option<usize>,
}

impl Norm {
    pub(crate) const fn new(gamma: Vec<f32>, eps: f32, parameter: Option<usize>) -> Self {
        Self {
            gamma,
            eps,
            parameter,
        }
    }

    fn gamma<'a>(&'a self, parameters: &'a [Parameter], has_own: bool) -> &'a [f32] {
        let own = self.parameter.filter(|_| has_own);
        own.map_or(&self.gamma, |index| &parameters[index].values)
    }

    /// Writes the norm of each row of `x` to `y`, both `[rows, width]`.
    pub(crate) fn forward(
        &self,
        pool: &ThreadPool,
        parameters: &[Parameter],
        has_own: bool,
        x: &[f32],
        y: &mut [f32],
    ) {
        let gamma = self.gamma(parameters, has_own);
        let width = gamma.len();
        for_each_row(pool, x.len() / width, [y], |row, [y]| {
            kernels::rms_norm(&x[row * width..][..width], gamma, self.eps, y);
        });
    }

    /// Adds to `dx` what the loss changes by with `x`, and to the gradient of the norm's scale.
    pub(crate) fn backward(
        &self,
        pool: &ThreadPool,
        parameters: &mut [Parameter],
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let gamma = self.gamma(parameters, true);
        let width = gamma.len();
        for_each_row(pool, x.len() / width, [&mut *dx], |row, [dx]| {
            let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
            kernels::rms_norm_back(x, gamma, self.eps, dy, dx);
        });
        let Some(index) = self.parameter else { return };
        // In order, so that the sum does not depend on the threads.
        let gradient = &mut parameters[index].gradient;
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let inverse = self.inverse(x);
            for (gradient, (x, dy)) in gradient.iter_mut().zip(x.iter().zip(dy)) {
                *gradient += x * inverse * dy;
            }
        }
    }

    fn inverse(&self, x: &[f32]) -> f32 {
        1.0 / (kernels::dot_f32(x, x) / x.len() as f32 + self.eps).sqrt()
    }
}
