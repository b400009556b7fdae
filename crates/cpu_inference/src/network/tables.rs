//! The tables in front of the blocks: tokens, and of some families positions and token types.

use kernels::{ThreadPool, fit};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::layout::Layout;
use crate::matrix::Matrix;
use crate::norm::Norm;
use crate::pass::Pass;
use crate::rows::for_each_run;
use crate::sites::Vector;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// What a token's number becomes.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) words: Matrix,
    positions: Option<Matrix>,
    /// Row of `positions` that position 0 takes.
    offset: usize,
    /// `[types, hidden]`.
    types: Option<Vector>,
    norm: Option<Norm>,
}

impl Tables {
    pub(super) fn load(config: &ModelConfig, layout: &Layout, tensors: &Tensors) -> Result<Self> {
        let matrix = |table| tensors.matrix_of(table);
        let norm = |norm| Norm::load(tensors, norm, config.norm_eps);
        Ok(Self {
            words: matrix(&layout.words)?,
            positions: layout.positions.as_ref().map(matrix).transpose()?,
            offset: config.position_offset,
            types: layout
                .types
                .as_ref()
                .map(|types| tensors.table(types))
                .transpose()?,
            norm: layout.embedding_norm.as_ref().map(norm).transpose()?,
        })
    }

    /// Fills `workspace.hidden` with the sum of what the tables give, normalised where there is a norm.
    pub(super) fn embed(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        let width = self.words.cols;
        let Workspace { hidden, delta, .. } = workspace;
        let len = pass.rows() * width;
        let buffers = [fit(hidden, len), fit(delta, len)];
        for_each_run(pool, buffers, width, |first, [hidden, sums]| {
            let rows = hidden
                .chunks_exact_mut(width)
                .zip(sums.chunks_exact_mut(width));
            for (row, (out, sum)) in (first..).zip(rows) {
                let Some(norm) = &self.norm else {
                    self.sum(pass, row, out, sum);
                    continue;
                };
                self.sum(pass, row, sum, out);
                norm.apply(pass.adapter(row), sum, out);
            }
        });
    }

    /// Writes the sum for a row to `sum`, with room for one row in `spare`.
    fn sum(&self, pass: &Pass, row: usize, sum: &mut [f32], spare: &mut [f32]) {
        let (id, adapter) = (pass.ids()[row], pass.adapter(row));
        match adapter.and_then(|adapter| adapter.row(id)) {
            Some(replaced) => sum.copy_from_slice(replaced),
            None => self.words.row(id as usize, sum),
        }
        if let Some(positions) = &self.positions {
            positions.row(pass.positions()[row] as usize + self.offset, spare);
            kernels::add(spare, sum);
        }
        if let Some(types) = &self.types {
            let kind = usize::from(pass.types()[row]);
            let types = types.of(adapter);
            kernels::add(&types[kind * sum.len()..][..sum.len()], sum);
        }
    }
}
