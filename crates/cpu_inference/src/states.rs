//! What a pass leaves: the final hidden states of its wanted rows, and what heads make of them.

use crate::adapter::Adapter;
use crate::error::{InferenceError, Result};
use crate::linear::{Input, InputBuffers};
use crate::low_rank::Run;
use crate::model::{Model, Watch};
use crate::pass::Pass;

/// Rows whose logits are computed at a time.
pub(crate) const HEAD_ROWS: usize = 64;

/// Final hidden states, `[wanted, hidden]`, after a decoder's last norm.
///
/// A head is computed when it is asked for, and for the rows asked for.
#[derive(Debug)]
pub struct States<'a> {
    model: &'a Model,
    pass: &'a Pass,
    hidden: &'a [f32],
    input: &'a mut InputBuffers,
}

impl<'a> States<'a> {
    pub(crate) const fn new(
        model: &'a Model,
        pass: &'a Pass,
        hidden: &'a [f32],
        input: &'a mut InputBuffers,
    ) -> Self {
        Self {
            model,
            pass,
            hidden,
            input,
        }
    }

    /// The states, `[wanted, hidden]`.
    #[must_use]
    pub const fn hidden(&self) -> &'a [f32] {
        self.hidden
    }

    pub(crate) const fn model(&self) -> &'a Model {
        self.model
    }

    /// Wanted rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.hidden.len() / self.model.config().hidden_size
    }

    /// Writes the logits, `[count, vocab]`, of `count` wanted rows from `first`.
    ///
    /// # Errors
    /// [`InferenceError::WrongArchitecture`] for an encoder.
    pub fn logits(&mut self, first: usize, out: &mut [f32]) -> Result<()> {
        let config = self.model.config();
        let rows = out.len() / config.vocab_size;
        let states = &self.hidden[first * config.hidden_size..][..rows * config.hidden_size];
        let decoder = self.model.decoder("logits")?;
        decoder.logits(self.model.pool(), states, self.input, out);
        if !self.pass.is_adapted() {
            return Ok(());
        }
        let wanted = &self.pass.wanted()[first..first + rows];
        if decoder.is_tied() {
            let rows = states
                .chunks_exact(config.hidden_size)
                .zip(out.chunks_exact_mut(config.vocab_size));
            for (&row, (state, logits)) in wanted.iter().zip(rows) {
                for (id, replaced) in self.pass.adapter(row).into_iter().flat_map(Adapter::rows) {
                    logits[*id as usize] = kernels::dot_f32(replaced, state);
                }
            }
        }
        let factors = |(rows, adapter): (_, &'a Adapter)| -> Option<Run<'a>> {
            Some((rows, adapter.head_factors()?))
        };
        let mut runs = self
            .pass
            .adapted_among(wanted)
            .filter_map(factors)
            .peekable();
        if runs.peek().is_some() {
            let (pool, head) = (self.model.pool(), decoder.head());
            Input::copied(pool, None, self.input, states, [head]).add(pool, head, runs, out);
        }
        Ok(())
    }

    /// Scores, `[wanted, outputs]`, of a head that belongs to a card of the rows.
    ///
    /// # Errors
    /// [`InferenceError::NoHead`] if a wanted row uses no card with such a head.
    pub fn head(&self, name: &str) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        let states = self.hidden.chunks_exact(self.model.config().hidden_size);
        for (&row, state) in self.pass.wanted().iter().zip(states) {
            let missing = || InferenceError::NoHead {
                name: name.to_owned(),
                known: Vec::new(),
            };
            let head = self.pass.adapter(row).ok_or_else(missing)?.head(name)?;
            let start = out.len();
            out.resize(start + head.outputs(), 0.0);
            head.score(state, &mut out[start..]);
        }
        Ok(out)
    }

    /// Calls `each(row, logits)` with the logits, `[rows, vocab]`, of the wanted rows, a few at a time.
    ///
    /// # Errors
    /// As [`States::logits`]; [`InferenceError::Interrupted`].
    pub fn for_each_logits(
        &mut self,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let (rows, vocab) = (self.rows(), self.model.config().vocab_size);
        let mut logits = vec![0.0; HEAD_ROWS.min(rows) * vocab];
        for first in (0..rows).step_by(HEAD_ROWS) {
            if !watch() {
                return Err(InferenceError::Interrupted);
            }
            let logits = &mut logits[..(rows - first).min(HEAD_ROWS) * vocab];
            self.logits(first, logits)?;
            each(first, logits);
        }
        Ok(())
    }
}
