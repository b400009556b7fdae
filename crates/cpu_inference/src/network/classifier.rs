//! The head of a model that scores whole texts.

use kernels::{ThreadPool, fit};

use crate::activation::Activation;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::layout::ClassifierLayout;
use crate::linear::{Input, Linear};
use crate::norm::Norm;
use crate::pass::Pass;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// `output(norm(activation(dense(state))))`.
#[derive(Debug)]
pub(crate) struct Classifier {
    dense: Linear,
    activation: Activation,
    norm: Option<Norm>,
    output: Linear,
}

impl Classifier {
    pub(super) fn load(
        config: &ModelConfig,
        layout: &ClassifierLayout,
        tensors: &Tensors,
    ) -> Result<Self> {
        let norm = |norm| Norm::load(tensors, norm, config.norm_eps);
        Ok(Self {
            dense: tensors.linear(&layout.dense)?,
            activation: Activation::parse(layout.activation)?,
            norm: layout.norm.as_ref().map(norm).transpose()?,
            output: tensors.linear(&layout.output)?,
        })
    }

    /// The scores, `[texts, labels]`, of pooled states, `[texts, hidden]`; `pass` has a row for each.
    pub(crate) fn scores(
        &self,
        pool: &ThreadPool,
        pass: &Pass,
        states: &[f32],
        workspace: &mut Workspace,
    ) -> Vec<f32> {
        let width = self.dense.weight.cols;
        let Workspace {
            wide,
            input: buffers,
            ..
        } = workspace;
        let wide = fit(wide, states.len());
        let (dense, output) = (&self.dense, &self.output);
        Input::copied(pool, Some(pass), buffers, states, [&dense.weight])
            .project(pool, [(dense, &mut *wide)]);
        let mut spare = vec![0.0; width];
        for (text, row) in wide.chunks_exact_mut(width).enumerate() {
            self.activation.apply(row);
            if let Some(norm) = &self.norm {
                spare.copy_from_slice(row);
                norm.apply(pass.adapter(text), &spare, row);
            }
        }
        let mut scores = vec![0.0; pass.rows() * output.weight.rows];
        Input::copied(pool, Some(pass), buffers, wide, [&output.weight])
            .project(pool, [(output, &mut scores)]);
        scores
    }
}
