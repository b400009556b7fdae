//! What a model makes of rows whose tokens are to be found: for each the chosen token and how sure it is.

use kernels::SharedOut;

use crate::error::{InferenceError, Result};
use crate::sampler::Sampler;
use crate::simd;
use crate::states::{HEAD_ROWS, States};

/// Numbers whose exponentials are held at a time: a multiple of a vector.
const CHUNK: usize = 1024;
/// The logit of a token that must not be chosen: finite, so that nothing times it is not a number.
const FORBIDDEN: f32 = -1e30;

/// What is asked of each row.
#[derive(Debug, Clone, Copy, Default)]
pub struct PredictionRequest<'a> {
    /// Most probable tokens to tell.
    pub top_k: usize,
    /// Tokens that have no part in the distribution.
    pub forbidden: &'a [u32],
    /// Also tell the logits.
    pub logits: bool,
}

/// A block of a text, of which rows are predicted.
#[derive(Debug)]
pub struct Block<'a> {
    /// Its tokens.
    pub ids: &'a [i32],
    /// Their positions; none are those behind what was read.
    pub positions: &'a [i32],
    /// Tokens from the first on whose keys and values, as they are in this pass, stay behind what was read.
    pub keep: usize,
    /// Those that stay see each other and what was read, not what follows them.
    pub is_prefix: bool,
    /// Rows to predict, ascending.
    pub wanted: &'a [usize],
    /// For some of the wanted rows, by index, all tokens that have part in the distribution.
    pub allowed: &'a [(usize, Vec<u32>)],
    /// Chooses the tokens.
    pub sampler: &'a mut Sampler,
}

/// What the rows gave, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// The chosen token of each row.
    pub ids: Vec<u32>,
    /// Its probability.
    pub confidence: Vec<f32>,
    /// Entropy of the distribution, in nats.
    pub entropy: Vec<f32>,
    /// The most probable tokens, `[rows, top_k]`, most probable first, lowest id among equals.
    pub top_ids: Vec<u32>,
    /// Their probabilities.
    pub top_confidence: Vec<f32>,
    /// `[rows, vocab]` if asked for; forbidden tokens are far below all others.
    pub logits: Vec<f32>,
}

/// One row's distribution.
#[derive(Debug, Clone, Default)]
struct Summary {
    /// Greatest logits and their tokens.
    top: Vec<(f32, u32)>,
    log_total: f32,
    entropy: f32,
}

impl States<'_> {
    /// What each wanted row gives; the wanted rows are those of `blocks`, one block behind the other.
    ///
    /// With `guidance` s they are there twice, the second time of texts that lack what the first were told, and
    /// logits are u + s (c - u): classifier-free guidance, arXiv:2207.12598.
    ///
    /// # Errors
    /// As [`States::logits`]; [`InferenceError::NotFinite`]; [`InferenceError::TokenRange`] for a forbidden or
    /// allowed token outside the vocabulary; [`InferenceError::Pass`] for a row that may have no token.
    pub fn predict(
        &mut self,
        request: &PredictionRequest<'_>,
        blocks: &mut [Block<'_>],
        guidance: Option<f32>,
    ) -> Result<Vec<Predictions>> {
        let vocab = self.model().config().vocab_size;
        check_tokens(request.forbidden, vocab)?;
        let rows: usize = blocks.iter().map(|block| block.wanted.len()).sum();
        let allowed = allowed_tokens(blocks, rows, vocab)?;
        let count = request.top_k.clamp(1, vocab);
        let held = HEAD_ROWS.min(rows);
        let mut found = vec![Predictions::default(); blocks.len()];
        let mut logits = vec![0.0; held * vocab];
        let mut unguided = vec![0.0; if guidance.is_some() { held * vocab } else { 0 }];
        let mut summaries = vec![Summary::default(); held];
        let mut owners = (0..blocks.len())
            .flat_map(|block| std::iter::repeat_n(block, blocks[block].wanted.len()))
            .collect::<Vec<_>>()
            .into_iter();
        for first in (0..rows).step_by(HEAD_ROWS) {
            let part = (rows - first).min(HEAD_ROWS);
            let (logits, summaries) = (&mut logits[..part * vocab], &mut summaries[..part]);
            self.logits(first, logits)?;
            if guidance.is_some() {
                self.logits(rows + first, &mut unguided[..part * vocab])?;
            }
            let (all, places) = (
                SharedOut::new(&mut *logits),
                SharedOut::new(&mut *summaries),
            );
            self.model().pool().run(part, |row| {
                // SAFETY: each task has a row and a place of its own.
                let (told, place) = unsafe { (all.part(row * vocab, vocab), places.part(row, 1)) };
                if let Some(scale) = guidance {
                    for (logit, &without) in told.iter_mut().zip(&unguided[row * vocab..]) {
                        *logit = without + scale * (*logit - without);
                    }
                }
                restrict(told, request.forbidden, allowed[first + row]);
                place[0].read(told, count);
            });
            for ((row, summary), block) in
                logits.chunks_exact(vocab).zip(summaries).zip(&mut owners)
            {
                found[block].push(summary, row, request.top_k, blocks[block].sampler)?;
                if request.logits {
                    found[block].logits.extend_from_slice(row);
                }
            }
        }
        Ok(found)
    }
}

/// Leaves in a row what may be chosen.
fn restrict(logits: &mut [f32], forbidden: &[u32], allowed: Option<&[u32]>) {
    if let Some(allowed) = allowed {
        let kept: Vec<f32> = allowed.iter().map(|&id| logits[id as usize]).collect();
        logits.fill(FORBIDDEN);
        for (&id, logit) in allowed.iter().zip(kept) {
            logits[id as usize] = logit;
        }
    }
    for &id in forbidden {
        logits[id as usize] = FORBIDDEN;
    }
}

/// For each wanted row of all blocks, the tokens that it is restricted to.
fn allowed_tokens<'a>(
    blocks: &[Block<'a>],
    rows: usize,
    vocab: usize,
) -> Result<Vec<Option<&'a [u32]>>> {
    let mut allowed = vec![None; rows];
    let mut start = 0;
    for block in blocks {
        for (row, tokens) in block.allowed {
            check_tokens(tokens, vocab)?;
            if *row >= block.wanted.len() || tokens.is_empty() {
                return Err(InferenceError::Pass {
                    detail: format!(
                        "expected tokens for some of {} wanted rows, got {} for row {row}",
                        block.wanted.len(),
                        tokens.len()
                    ),
                });
            }
            allowed[start + row] = Some(tokens.as_slice());
        }
        start += block.wanted.len();
    }
    Ok(allowed)
}

fn check_tokens(tokens: &[u32], vocab: usize) -> Result<()> {
    let outside = tokens.iter().position(|&id| id as usize >= vocab);
    outside.map_or(Ok(()), |position| {
        Err(InferenceError::TokenRange {
            id: i64::from(tokens[position]),
            position,
            vocab_size: vocab,
        })
    })
}

impl Predictions {
    fn push(
        &mut self,
        summary: &Summary,
        logits: &[f32],
        top_k: usize,
        sampler: &mut Sampler,
    ) -> Result<()> {
        if !summary.entropy.is_finite() || summary.top[0].0 <= FORBIDDEN {
            return Err(InferenceError::NotFinite { what: "logits" });
        }
        let id = if sampler.is_greedy() {
            summary.top[0].1
        } else {
            sampler.sample(logits, &[])?.id
        };
        let probability = |logit: f32| (logit - summary.log_total).exp();
        self.ids.push(id);
        self.confidence.push(probability(logits[id as usize]));
        self.entropy.push(summary.entropy);
        for &(logit, id) in summary.top.iter().take(top_k) {
            self.top_ids.push(id);
            self.top_confidence.push(probability(logit));
        }
        Ok(())
    }
}

impl Summary {
    /// Reads the `count` greatest logits, the logarithm of the sum of the exponentials, and the entropy.
    fn read(&mut self, logits: &[f32], count: usize) {
        self.top.clear();
        for (id, &logit) in (0..).zip(logits) {
            let full = self.top.len() == count;
            if full && logit <= self.top[count - 1].0 {
                continue;
            }
            let at = self.top.partition_point(|&(other, _)| other >= logit);
            if full {
                self.top.pop();
            }
            self.top.insert(at, (logit, id));
        }
        let greatest = self.top[0].0;
        let (mut total, mut weighted) = (0.0f64, 0.0f64);
        let mut weights = [0.0; CHUNK];
        for chunk in logits.chunks(CHUNK) {
            weights[..chunk.len()].copy_from_slice(chunk);
            weights[chunk.len()..].fill(f32::NEG_INFINITY);
            total += f64::from(simd::exp_sum(kernels::isa(), &mut weights, greatest));
            weighted += f64::from(kernels::dot_f32(&weights[..chunk.len()], chunk));
        }
        let log_total = f64::from(greatest) + total.ln();
        self.log_total = log_total as f32;
        self.entropy = (log_total - weighted / total).max(0.0) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_that_of_the_softmax() {
        let logits: Vec<f32> = (0..3000).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
        let mut summary = Summary::default();
        summary.read(&logits, 5);
        let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
        let total: f64 = weights.iter().sum();
        let entropy: f64 = weights.iter().map(|w| -w / total * (w / total).ln()).sum();
        assert!((f64::from(summary.log_total) - total.ln()).abs() < 1e-5);
        assert!((f64::from(summary.entropy) - entropy).abs() < 1e-4);
        let mut order: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        assert_eq!(summary.top, order[..5]);
    }

    #[test]
    fn equal_logits_come_by_id() {
        let mut summary = Summary::default();
        summary.read(&[1.0, 3.0, 3.0, 2.0, 3.0], 2);
        assert_eq!(summary.top, [(3.0, 1), (3.0, 2)]);
    }
}
