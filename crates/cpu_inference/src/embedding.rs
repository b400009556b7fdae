//! Sequences to vectors.

use crate::batch::Batch;
use crate::config::Pooling;
use crate::error::{InferenceError, Result};
use crate::model::{Model, Watch};
use crate::pass::{Pass, Segment};
use crate::pooling::normalize;

impl Model {
    /// One vector per sequence: float32 `[sequences, hidden]` in the order given.
    ///
    /// The first `skip` tokens of each are seen by the others and take no part in the pooling.
    /// Sequence `s` is `ids[offsets[s] .. offsets[s + 1]]`. Sequences are sorted by length inside and
    /// run in slices without padding, so a sequence's vector does not depend on its neighbours.
    ///
    /// # Errors
    /// Offsets, ids or lengths out of range; [`InferenceError::Interrupted`];
    /// [`InferenceError::NotFinite`] for damaged weights.
    pub fn embed(
        &self,
        ids: &[i32],
        offsets: &[i64],
        pooling: Pooling,
        skip: usize,
        unit_length: bool,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let width = self.config().hidden_size;
        let batch = self.batch(ids, offsets)?;
        let mut out = vec![0.0; batch.len() * width];
        self.for_each_sequence(&batch, watch, |sequence, states| {
            let vector = &mut out[sequence * width..(sequence + 1) * width];
            pooling.apply(states, skip, vector);
            if unit_length {
                normalize(vector);
            }
        })?;
        if out.iter().any(|value| !value.is_finite()) {
            return Err(InferenceError::NotFinite { what: "embeddings" });
        }
        Ok(out)
    }

    /// Final hidden states of every token: float32 `[tokens, hidden]`, after a decoder's last norm.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub fn hidden_states(
        &self,
        ids: &[i32],
        offsets: &[i64],
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let width = self.config().hidden_size;
        let batch = self.batch(ids, offsets)?;
        let mut out = vec![0.0; batch.tokens() * width];
        self.for_each_sequence(&batch, watch, |sequence, states| {
            let start = batch.span(sequence).start * width;
            out[start..start + states.len()].copy_from_slice(states);
        })?;
        Ok(out)
    }

    /// Logits of every position of one sequence: float32 `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`Model::embed`]; [`InferenceError::WrongArchitecture`] for an encoder.
    pub fn logits(&self, ids: &[i32], watch: Watch<'_>) -> Result<Vec<f32>> {
        let vocab = self.config().vocab_size;
        let mut out = vec![0.0; ids.len() * vocab];
        self.for_each_logits(ids, 0, "logits", watch, |first, logits| {
            out[first * vocab..first * vocab + logits.len()].copy_from_slice(logits);
        })?;
        Ok(out)
    }

    /// Calls `each(position, logits)` with the logits, `[rows, vocab]`, of positions `from..` of one
    /// sequence, a few rows at a time.
    pub(crate) fn for_each_logits(
        &self,
        ids: &[i32],
        from: usize,
        operation: &'static str,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.decoder(operation)?;
        self.batch(ids, &[0, ids.len() as i64])?;
        let mut pass = Pass::default();
        let ids = ids.iter().map(|&id| id as u32);
        let rows = pass.span(ids, 0, &[Segment::Own { causal: true }]);
        pass.want(from..rows.end);
        self.run(&pass, &mut [], |states| {
            states.for_each_logits(watch, |row, logits| each(from + row, logits))
        })
    }

    fn batch<'a>(&self, ids: &'a [i32], offsets: &[i64]) -> Result<Batch<'a>> {
        let config = self.config();
        Batch::new(
            ids,
            offsets,
            config.vocab_size,
            config.max_position_embeddings,
        )
    }

    /// Runs the network and calls `each(sequence, states)` with the states, `[tokens, hidden]`.
    fn for_each_sequence(
        &self,
        batch: &Batch<'_>,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let width = self.config().hidden_size;
        let causal = self.architecture().is_decoder();
        let mut pass = Pass::default();
        for slice in batch.slices() {
            if !watch() {
                return Err(InferenceError::Interrupted);
            }
            batch.fill(&slice, causal, &mut pass);
            self.run(&pass, &mut [], |states| {
                let mut left = states.hidden();
                for &sequence in &slice {
                    let (own, rest) = left.split_at(batch.span(sequence).len() * width);
                    each(sequence, own);
                    left = rest;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
