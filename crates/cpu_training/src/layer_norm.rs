//! Layer norms and their gradients.
//!
//! Source: arXiv:1607.06450.

use cpu_inference::Norm;
use kernels::ThreadPool;

use crate::buffers::for_each_row;
use crate::error::Result;
use crate::frozen::Tensors;

/// `y = (x − mean(x)) / sqrt(var(x) + eps) · gamma + beta`, row by row; is not trained.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    pub(crate) fn load(tensors: &Tensors<'_>, norm: &Norm, eps: f32) -> Result<Self> {
        let part = |part| tensors.get(&format!("{}.{part}", norm.name), &[norm.width]);
        Ok(Self {
            gamma: part("weight")?.dequantize(),
            beta: part("bias")?.dequantize(),
            eps,
        })
    }

    /// Writes the norm of each row of `x` to `y`, both `[rows, width]`.
    pub(crate) fn forward(&self, pool: &ThreadPool, x: &[f32], y: &mut [f32]) {
        let width = self.gamma.len();
        for_each_row(pool, x.len() / width, [y], |row, [y]| {
            let x = &x[row * width..][..width];
            kernels::layer_norm(x, &self.gamma, &self.beta, self.eps, y);
        });
    }

    /// Puts in the place of `dy` what the loss changes by with `x`.
    pub(crate) fn backward(&self, pool: &ThreadPool, x: &[f32], dy: &mut [f32]) {
        let width = self.gamma.len();
        for_each_row(pool, x.len() / width, [dy], |row, [dy]| {
            let x = &x[row * width..][..width];
            let count = width as f32;
            let mean = x.iter().sum::<f32>() / count;
            let spread = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
            let inverse = 1.0 / (spread + self.eps).sqrt();
            let (mut sum, mut along) = (0.0, 0.0);
            for (dy, (x, gamma)) in dy.iter_mut().zip(x.iter().zip(&self.gamma)) {
                *dy *= gamma;
                sum += *dy;
                along += *dy * (x - mean) * inverse;
            }
            let (sum, along) = (sum / count, along / count);
            for (dy, x) in dy.iter_mut().zip(x) {
                *dy = inverse * (*dy - sum - (x - mean) * inverse * along);
            }
        });
    }
}
