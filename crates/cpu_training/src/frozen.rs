//! A layer of the base, which is read as it is stored and never written.

use arrow_quant::{Memory, Tensor};
use cpu_inference::InferenceError;

use crate::buffers::fit;
use crate::error::Result;

/// Weights `[outputs, inputs]`, and a bias where there is one.
#[derive(Debug)]
pub(crate) struct Frozen {
    weight: Tensor,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Frozen {
    pub(crate) const fn new(weight: Tensor, bias: Option<Vec<f32>>) -> Self {
        Self { weight, bias }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.weight.matrix().0
    }

    pub(crate) fn inputs(&self) -> usize {
        self.weight.matrix().1
    }

    /// The weights, `[outputs, inputs]`.
    pub(crate) fn read<'a>(&self, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let out = fit(scratch, self.weight.num_params());
        self.weight.dequantize_into(out, Memory::Reused);
        out
    }

    /// Rows from `start`, a multiple of 16, as many as fill `out`.
    pub(crate) fn read_rows(&self, start: usize, out: &mut [f32]) {
        self.weight.dequantize_rows(start, out, Memory::Reused);
    }
}

/// The base's tensors by name.
pub(crate) struct Tensors<'a>(pub(crate) &'a [Tensor]);

impl Tensors<'_> {
    pub(crate) fn find(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|tensor| tensor.name == name)
    }

    /// A tensor of that shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let Some(found) = self.find(name) else {
            let (name, expected) = (name.to_owned(), shape.to_vec());
            return Err(InferenceError::MissingTensor { name, expected }.into());
        };
        if found.shape != shape {
            return Err(InferenceError::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                got: found.shape.clone(),
            }
            .into());
        }
        Ok(found)
    }

    /// A table or the weights of a layer.
    pub(crate) fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Frozen> {
        let weight = self.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = format!("{name}.bias");
        let bias = match self.find(&bias) {
            Some(_) => Some(self.get(&bias, &[outputs])?.dequantize()),
            None => None,
        };
        Ok(Frozen::new(weight.clone(), bias))
    }
}
