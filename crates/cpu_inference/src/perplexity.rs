//! How well a decoder predicts a text.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::error::{InferenceError, Result};
use crate::model::{Model, Watch};
use crate::sampler::log_sum_exp;

impl Model {
    /// Negative log-likelihoods, in nats, of the tokens `ids[first..]`, each given all ids before it.
    ///
    /// # Errors
    /// [`InferenceError::TooFewTokens`] unless `1 <= first < ids.len()`; else as [`Model::logits`], and
    /// [`InferenceError::NotFinite`] for damaged weights.
    pub fn token_nll(
        &self,
        ids: &[i32],
        first: usize,
        adapter: Option<&Arc<Adapter>>,
        watch: Watch<'_>,
    ) -> Result<Vec<f32>> {
        if first == 0 || first >= ids.len() {
            return Err(InferenceError::TooFewTokens {
                operation: "token_nll",
                needed: first.max(1) + 1,
                got: ids.len(),
            });
        }
        let vocab = self.config().vocab_size;
        let mut losses = Vec::with_capacity(ids.len() - first);
        let mut scratch = Vec::new();
        self.for_each_logits(
            ids,
            adapter,
            first - 1,
            "perplexity",
            watch,
            |position, logits| {
                let targets = &ids[(position + 1).min(ids.len())..];
                for (logits, &target) in logits.chunks_exact(vocab).zip(targets) {
                    losses.push(log_sum_exp(logits, &mut scratch) - logits[target as usize]);
                }
            },
        )?;
        if losses.iter().any(|loss| !loss.is_finite()) {
            return Err(InferenceError::NotFinite { what: "logits" });
        }
        Ok(losses)
    }
}
