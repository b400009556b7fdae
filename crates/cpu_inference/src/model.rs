//! A loaded model, shared by threads.

use std::sync::{Mutex, PoisonError};

use arrow_quant::Tensor;
use kernels::ThreadPool;

use crate::attention::Heads;
use crate::batch::Batch;
use crate::config::{Architecture, ModelConfig, Pooling};
use crate::decoder::{Context, Decoder};
use crate::encoder::Bert;
use crate::error::{InferenceError, Result};
use crate::pooling::normalize;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// Asked between slices of long work whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut() -> bool;

/// Rows whose logits are computed at a time.
pub(crate) const HEAD_ROWS: usize = 64;

/// A network, its weights and its threads.
///
/// Calls from several threads at once are safe and independent: each takes a workspace of its own.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    architecture: Architecture,
    network: Network,
    pool: ThreadPool,
    workspaces: Mutex<Vec<Workspace>>,
}

#[derive(Debug)]
enum Network {
    Bert(Bert),
    Decoder(Decoder),
}

impl Model {
    /// Finds every tensor that the architecture needs and checks its shape.
    ///
    /// Tensors of a mapped file are used where they lie. `threads` counts the caller; at least 1.
    ///
    /// # Errors
    /// What is missing, misshapen or not supported, by name.
    pub fn load(config: ModelConfig, tensors: &[Tensor], threads: usize) -> Result<Self> {
        let architecture = config.family()?;
        let tensors = Tensors::new(tensors);
        let network = match architecture {
            Architecture::Bert => Network::Bert(Bert::load(&config, &tensors)?),
            family => Network::Decoder(Decoder::load(&config, family, &tensors)?),
        };
        let pool = ThreadPool::new(threads);
        Ok(Self {
            config,
            architecture,
            network,
            pool,
            workspaces: Mutex::default(),
        })
    }

    /// The description it was loaded with.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The family.
    #[must_use]
    pub const fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Threads that take part in a forward pass.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

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
        let width = self.config.hidden_size;
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
        let width = self.config.hidden_size;
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
        let vocab = self.config.vocab_size;
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
        let decoder = self.decoder(operation)?;
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let batch = self.batch(ids, &[0, ids.len() as i64])?;
        self.with_workspace(|workspace| {
            batch.gather(&[0], &mut workspace.ids, &mut workspace.offsets);
            decoder.forward(&self.pool, workspace, &mut Context::Batch);
            let mut logits = vec![0.0; HEAD_ROWS.min(ids.len()) * vocab];
            for first in (from..ids.len()).step_by(HEAD_ROWS) {
                if !watch() {
                    return Err(InferenceError::Interrupted);
                }
                let last = (first + HEAD_ROWS).min(ids.len());
                let states = &workspace.normed[first * width..last * width];
                let logits = &mut logits[..(last - first) * vocab];
                decoder.logits(&self.pool, states, &mut workspace.input, logits);
                each(first, logits);
            }
            Ok(())
        })
    }

    pub(crate) fn decoder(&self, operation: &'static str) -> Result<&Decoder> {
        match &self.network {
            Network::Decoder(decoder) => Ok(decoder),
            Network::Bert(_) => Err(InferenceError::WrongArchitecture {
                operation,
                needed: "a decoder (llama, qwen2, qwen3)",
                architecture: self.architecture.name(),
            }),
        }
    }

    pub(crate) const fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads::of(&self.config)
    }

    fn batch<'a>(&self, ids: &'a [i32], offsets: &[i64]) -> Result<Batch<'a>> {
        Batch::new(
            ids,
            offsets,
            self.config.vocab_size,
            self.config.max_position_embeddings,
        )
    }

    /// Runs the network and calls `each(sequence, states)` with the states, `[tokens, hidden]`.
    fn for_each_sequence(
        &self,
        batch: &Batch<'_>,
        watch: Watch<'_>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let width = self.config.hidden_size;
        self.with_workspace(|workspace| {
            for slice in batch.slices() {
                if !watch() {
                    return Err(InferenceError::Interrupted);
                }
                batch.gather(&slice, &mut workspace.ids, &mut workspace.offsets);
                let states = match &self.network {
                    Network::Bert(bert) => {
                        bert.forward(&self.pool, workspace);
                        &workspace.hidden
                    }
                    Network::Decoder(decoder) => {
                        decoder.forward(&self.pool, workspace, &mut Context::Batch);
                        &workspace.normed
                    }
                };
                for (&sequence, span) in slice.iter().zip(workspace.offsets.windows(2)) {
                    each(sequence, &states[span[0] * width..span[1] * width]);
                }
            }
            Ok(())
        })
    }

    fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        let free = || {
            self.workspaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut workspace = free().pop().unwrap_or_default();
        let result = work(&mut workspace);
        free().push(workspace);
        result
    }
}
