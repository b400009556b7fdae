//! What is trained, and the step that changes it.

use crate::error::{Result, TrainingError};

/// An array that is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// As a card names it.
    pub name: String,
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Numbers.
    pub values: Vec<f32>,
    /// Of the loss, added up since the last step.
    pub gradient: Vec<f32>,
    /// Running means of the gradient and of its square.
    pub moments: [Vec<f32>; 2],
}

impl Parameter {
    /// One that was not trained before.
    #[must_use]
    pub fn new(name: &str, shape: Vec<usize>, values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self {
            name: name.to_owned(),
            shape,
            gradient: zeros.clone(),
            moments: [zeros.clone(), zeros],
            values,
        }
    }

    /// Rows and columns of a matrix.
    pub(crate) fn matrix(&self) -> (usize, usize) {
        match *self.shape {
            [rows, cols] => (rows, cols),
            _ => (1, self.values.len()),
        }
    }
}

/// `AdamW`: Adam with decoupled weight decay.
///
/// Source: arXiv:1711.05101.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decays of the running means.
    pub betas: [f32; 2],
    /// Added to the root of the second.
    pub eps: f32,
    /// Part of the rate by which matrices shrink in each step.
    pub weight_decay: f32,
    /// Longest that the gradients of a step may be together; longer ones are scaled down.
    pub clip: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.98],
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
        }
    }
}

impl AdamW {
    /// Takes step `step`, from 1, at a rate, and clears the gradients; returns their length.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`]; nothing is changed then but the gradients, which are cleared.
    pub fn step(self, parameters: &mut [Parameter], step: u64, rate: f32) -> Result<f32> {
        let squares = parameters.iter().map(|one| {
            let squares = one.gradient.iter().map(|&g| f64::from(g) * f64::from(g));
            squares.sum::<f64>()
        });
        let length = squares.sum::<f64>().sqrt();
        if !length.is_finite() {
            for one in parameters {
                one.gradient.fill(0.0);
            }
            return Err(TrainingError::Diverged);
        }
        let scale = if length > f64::from(self.clip) {
            (f64::from(self.clip) / length) as f32
        } else {
            1.0
        };
        let [first, second] = self.betas;
        let step = step.min(i32::MAX as u64) as i32;
        let corrections = self.betas.map(|beta| 1.0 - f64::from(beta).powi(step));
        let (shrunk, root) = (1.0 - rate * self.weight_decay, corrections[1].sqrt() as f32);
        let rate = (f64::from(rate) / corrections[0]) as f32;
        for one in parameters {
            let shrunk = if one.shape.len() > 1 { shrunk } else { 1.0 };
            let [means, squares] = &mut one.moments;
            let numbers = one
                .values
                .iter_mut()
                .zip(&mut one.gradient)
                .zip(means)
                .zip(squares);
            for (((value, gradient), mean), square) in numbers {
                let g = *gradient * scale;
                *mean = first * *mean + (1.0 - first) * g;
                *square = second * *square + (1.0 - second) * g * g;
                *value = *value * shrunk - rate * *mean / (square.sqrt() / root + self.eps);
                *gradient = 0.0;
            }
        }
        Ok(length as f32)
    }
}
