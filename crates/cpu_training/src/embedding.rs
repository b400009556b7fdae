//! The table of the tokens, with the rows that are trained in place of some.

use crate::frozen::Frozen;
use crate::parameters::Parameter;

const PANEL: usize = 16;

/// The table.
#[derive(Debug)]
pub(crate) struct Embedding {
    pub(crate) words: Frozen,
    pub(crate) rows: Option<Rows>,
}

/// Rows that are trained.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Tokens whose rows they are.
    pub(crate) ids: Vec<u32>,
    /// Where among the parameters they are, `[ids, hidden]`.
    pub(crate) parameter: usize,
}

impl Rows {
    fn place(&self, id: u32) -> Option<usize> {
        self.ids.iter().position(|&own| own == id)
    }
}

impl Embedding {
    /// Writes the rows of tokens, `[ids, hidden]`.
    pub(crate) fn forward(
        &self,
        parameters: &[Parameter],
        has_own: bool,
        ids: &[u32],
        out: &mut [f32],
    ) {
        let (vocab, width) = (self.words.outputs(), self.words.inputs());
        let mut panel = vec![0.0; PANEL * width];
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
            if let Some((rows, place)) = self.own(has_own, id) {
                out.copy_from_slice(&parameters[rows.parameter].values[place * width..][..width]);
                continue;
            }
            let id = id as usize;
            let first = id / PANEL * PANEL;
            let panel = &mut panel[..(vocab - first).min(PANEL) * width];
            self.words.read_rows(first, panel);
            out.copy_from_slice(&panel[(id - first) * width..][..width]);
        }
    }

    /// Adds to the gradients of trained rows.
    pub(crate) fn backward(&self, parameters: &mut [Parameter], ids: &[u32], gradient: &[f32]) {
        let width = self.words.inputs();
        for (&id, gradient) in ids.iter().zip(gradient.chunks_exact(width)) {
            if let Some((rows, place)) = self.own(true, id) {
                let own = &mut parameters[rows.parameter].gradient;
                kernels::add(gradient, &mut own[place * width..][..width]);
            }
        }
    }

    fn own(&self, has_own: bool, id: u32) -> Option<(&Rows, usize)> {
        let rows = self.rows.as_ref().filter(|_| has_own)?;
        Some((rows, rows.place(id)?))
    }
}
