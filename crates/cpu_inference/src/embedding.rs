//! Sequences to vectors.

use std::ops::Range;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::batch::{Batch, Sequences};
use crate::config::Pooling;
use crate::error::{InferenceError, Result};
use crate::model::{Model, Watch};
use crate::pass::{Pass, Segment};
use crate::pooling::normalize;
use crate::states::States;

impl Model {
    /// One vector per sequence: float32 `[sequences, hidden]` in the order given.
    ///
    /// The first `skip` tokens of each are seen by the others and take no part in the pooling.
    /// Sequences are sorted by length inside and
    /// run in slices without padding, so a sequence's vector does not depend on its neighbours.
    ///
    /// # Errors
    /// Offsets, ids or lengths out of range; [`InferenceError::Interrupted`];
    /// [`InferenceError::NotFinite`] for damaged weights.
    pub fn embed<'a>(
        &self,
        sequences: impl Into<Sequences<'a>>,
        pooling: Pooling,
        skip: usize,
        unit_length: bool,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let width = self.config().hidden_size;
        let batch = self.batch(sequences.into())?;
        let mut out = vec![0.0; batch.len() * width];
        let pooled = |tokens| pooling.tokens(tokens, skip);
        self.for_each_sequence(&batch, pooled, watch, |sequence, states| {
            let vector = &mut out[sequence * width..(sequence + 1) * width];
            let skipped = pooled(batch.span(sequence).len()).start;
            pooling.apply(states, skipped, vector);
            if unit_length {
                normalize(vector);
            }
        })?;
        if out.iter().any(|value| !value.is_finite()) {
            return Err(InferenceError::NotFinite { what: "embeddings" });
        }
        Ok(out)
    }

    /// Scores of whole sequences by the model's own head: float32 `[sequences, labels]` in the order given.
    ///
    /// `pooling` says which state of a sequence the head takes.
    ///
    /// # Errors
    /// As [`Model::embed`]; [`InferenceError::WrongArchitecture`] for a model without such a head.
    pub fn class_scores(
        &self,
        sequences: Sequences<'_>,
        pooling: Pooling,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let classifier = self.classifier()?;
        let states = self.embed(sequences, pooling, 0, false, watch)?;
        let mut pass = Pass::default();
        let texts = states.len() / self.config().hidden_size;
        pass.span(std::iter::repeat_n(0, texts), 0, &[]);
        if let Some(adapter) = sequences.adapter {
            pass.adapt(adapter);
        }
        let scores = self
            .with_workspace(|workspace| classifier.scores(self.pool(), &pass, &states, workspace));
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(InferenceError::NotFinite { what: "scores" });
        }
        Ok(scores)
    }

    /// Final hidden states of every token: float32 `[tokens, hidden]`, after a decoder's last norm.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub fn hidden_states<'a>(
        &self,
        sequences: impl Into<Sequences<'a>>,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let width = self.config().hidden_size;
        let batch = self.batch(sequences.into())?;
        let mut out = vec![0.0; batch.tokens() * width];
        self.for_each_sequence(&batch, all, watch, |sequence, states| {
            let start = batch.span(sequence).start * width;
            out[start..start + states.len()].copy_from_slice(states);
        })?;
        Ok(out)
    }

    /// Scores of every token by a head of a card: float32 `[tokens, outputs]`.
    ///
    /// # Errors
    /// As [`Model::embed`]; [`InferenceError::NoHead`].
    pub fn head_scores(
        &self,
        sequences: Sequences<'_>,
        head: &str,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let batch = self.batch(sequences)?;
        let outputs = match sequences.adapter {
            Some(adapter) => adapter.head(head)?.outputs(),
            None => {
                return Err(InferenceError::NoHead {
                    name: head.to_owned(),
                    known: Vec::new(),
                });
            }
        };
        let mut out = vec![0.0; batch.tokens() * outputs];
        self.for_each_slice(&batch, all, watch, |slice, states| {
            let scores = states.head(head)?;
            let mut left = &scores[..];
            for &sequence in slice {
                let span = batch.span(sequence);
                let (own, rest) = left.split_at(span.len() * outputs);
                out[span.start * outputs..span.end * outputs].copy_from_slice(own);
                left = rest;
            }
            Ok(())
        })?;
        if out.iter().any(|score| !score.is_finite()) {
            return Err(InferenceError::NotFinite { what: "scores" });
        }
        Ok(out)
    }

    /// Logits of every position of one sequence: float32 `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`Model::embed`]; [`InferenceError::WrongArchitecture`] for an encoder.
    pub fn logits(
        &self,
        ids: &[i32],
        adapter: Option<&Arc<Adapter>>,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        let vocab = self.config().vocab_size;
        let mut out = vec![0.0; ids.len() * vocab];
        self.for_each_logits(ids, adapter, 0, "logits", watch, |first, logits| {
            out[first * vocab..first * vocab + logits.len()].copy_from_slice(logits);
        })?;
        Ok(out)
    }

    /// Calls `each(position, logits)` with the logits, `[rows, vocab]`, of positions `from..` of one
    /// sequence, a few rows at a time.
    pub(crate) fn for_each_logits(
        &self,
        ids: &[i32],
        adapter: Option<&Arc<Adapter>>,
        from: usize,
        operation: &'static str,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.decoder(operation)?;
        self.batch((ids, &[0, ids.len() as i64]).into())?;
        let mut pass = Pass::default();
        let ids = ids.iter().map(|&id| id as u32);
        let rows = pass.span(ids, 0, &[Segment::Own { causal: true }]);
        if let Some(adapter) = adapter {
            pass.adapt(adapter);
        }
        pass.want(from..rows.end);
        self.run(&pass, &mut [], |states| {
            states.for_each_logits(watch, |row, logits| each(from + row, logits))
        })
    }

    fn batch<'a>(&self, sequences: Sequences<'a>) -> Result<Batch<'a>> {
        let config = self.config();
        Batch::new(sequences, config.vocab_size, config.max_position_embeddings)
    }

    /// Runs the network and calls `each(sequence, states)` with the states, `[tokens, hidden]`, of those tokens of a
    /// sequence that are `wanted` of as many as it has.
    fn for_each_sequence(
        &self,
        batch: &Batch<'_>,
        wanted: impl Fn(usize) -> Range<usize>,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let width = self.config().hidden_size;
        self.for_each_slice(batch, &wanted, watch, |slice, states| {
            let mut left = states.hidden();
            for &sequence in slice {
                let tokens = wanted(batch.span(sequence).len());
                let (own, rest) = left.split_at(tokens.len() * width);
                each(sequence, own);
                left = rest;
            }
            Ok(())
        })
    }

    /// Runs the network and calls `each(sequences, states)` with the states of a slice, those that are `wanted`.
    fn for_each_slice(
        &self,
        batch: &Batch<'_>,
        wanted: impl Fn(usize) -> Range<usize>,
        watch: Watch<'_>,
        mut each: impl FnMut(&[usize], &States<'_>) -> Result<()>,
    ) -> Result<()> {
        let causal = self.family().is_decoder;
        let mut pass = Pass::default();
        for slice in batch.slices() {
            if !watch() {
                return Err(InferenceError::Interrupted);
            }
            batch.fill(&slice, causal, &wanted, &mut pass);
            self.run(&pass, &mut [], |states| each(&slice, states))?;
        }
        Ok(())
    }
}

/// All tokens of a sequence.
const fn all(tokens: usize) -> Range<usize> {
    0..tokens
}
