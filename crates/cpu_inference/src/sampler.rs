//! Choosing a token from logits.

use crate::error::{InferenceError, Result};
use crate::random::Random;
use crate::simd;

/// How tokens are chosen. The steps run in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingSettings {
    /// Divides positive and multiplies negative logits of tokens already seen; > 0, 1 is off.
    pub repetition_penalty: f32,
    /// Divides logits; >= 0, 0 takes the greatest logit.
    pub temperature: f32,
    /// Keeps the most probable tokens; 0 is off.
    pub top_k: usize,
    /// Keeps the fewest most probable tokens that together reach this probability; in (0, 1], 1 is off.
    pub top_p: f32,
    /// Drops tokens less probable than this fraction of the most probable; in [0, 1], 0 is off.
    pub min_p: f32,
    /// Start of the random sequence.
    pub seed: u64,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
        }
    }
}

impl SamplingSettings {
    fn validate(&self) -> Result<()> {
        let check = |setting, valid: bool, expected, got: f32| {
            if valid {
                Ok(())
            } else {
                Err(InferenceError::Sampling {
                    setting,
                    expected,
                    got: got.to_string(),
                })
            }
        };
        let penalty = self.repetition_penalty;
        let heat = self.temperature;
        check(
            "repetition_penalty",
            penalty.is_finite() && penalty > 0.0,
            "a number > 0",
            penalty,
        )?;
        check(
            "temperature",
            heat.is_finite() && heat >= 0.0,
            "a number >= 0",
            heat,
        )?;
        check(
            "top_p",
            self.top_p > 0.0 && self.top_p <= 1.0,
            "a number in (0, 1]",
            self.top_p,
        )?;
        check(
            "min_p",
            (0.0..=1.0).contains(&self.min_p),
            "a number in [0, 1]",
            self.min_p,
        )
    }
}

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability under the model's own logits, before any setting acts.
    pub logprob: f32,
}

/// Chooses tokens by its settings; two samplers of equal settings choose alike.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: SamplingSettings,
    random: Random,
    adjusted: Vec<f32>,
    scratch: Vec<f32>,
    candidates: Vec<(f32, u32)>,
    seen: Vec<u64>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`InferenceError::Sampling`] names the setting that is out of range.
    pub fn new(settings: SamplingSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            settings,
            random: Random::new(settings.seed),
            ..Self::greedy()
        })
    }

    /// A sampler that always takes the greatest logit.
    #[must_use]
    pub fn greedy() -> Self {
        let settings = SamplingSettings::default();
        Self {
            settings,
            random: Random::new(settings.seed),
            adjusted: Vec::new(),
            scratch: Vec::new(),
            candidates: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Chooses one of `logits`, `[vocab]`, given the tokens so far. Minus infinity excludes a token.
    ///
    /// # Errors
    /// [`InferenceError::NotFinite`] if a logit is NaN or plus infinity, or every one is minus infinity.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<Choice> {
        let bad = |&logit: &f32| logit.is_nan() || logit == f32::INFINITY;
        if logits.iter().any(bad) || logits.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            return Err(InferenceError::NotFinite { what: "logits" });
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        self.penalise(history);
        let id = if self.settings.temperature == 0.0 {
            argmax(&self.adjusted)
        } else {
            self.draw()
        };
        let total = log_sum_exp(logits, &mut self.scratch);
        Ok(Choice {
            id,
            logprob: logits[id as usize] - total,
        })
    }

    /// How it chooses.
    #[must_use]
    pub const fn settings(&self) -> SamplingSettings {
        self.settings
    }

    /// The next number of its random sequence, in [0, 1), for who draws elsewhere: the first token, in the order of
    /// their ids, whose weight and those before exceed this part of all weight.
    pub fn unit(&mut self) -> f64 {
        self.random.unit()
    }

    /// Whether it takes the greatest logit, whatever was written before.
    pub(crate) fn is_greedy(&self) -> bool {
        let SamplingSettings {
            temperature,
            repetition_penalty,
            ..
        } = self.settings;
        temperature == 0.0 && (repetition_penalty - 1.0).abs() < f32::EPSILON
    }

    fn penalise(&mut self, history: &[u32]) {
        let penalty = self.settings.repetition_penalty;
        if (penalty - 1.0).abs() < f32::EPSILON {
            return;
        }
        self.seen.clear();
        self.seen.resize(self.adjusted.len().div_ceil(64), 0);
        let known = self.adjusted.len();
        for &id in history.iter().filter(|&&id| (id as usize) < known) {
            let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
            if self.seen[word] & bit == 0 {
                self.seen[word] |= bit;
                let logit = &mut self.adjusted[id as usize];
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }

    fn draw(&mut self) -> u32 {
        let SamplingSettings {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let greatest = self
            .adjusted
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| ((logit - greatest) / temperature).exp();
        self.candidates.clear();
        self.candidates.extend(
            (0..)
                .zip(&self.adjusted)
                .map(|(id, &logit)| (weight(logit), id)),
        );
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, by_weight);
            self.candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            keep_nucleus(&mut self.candidates, top_p);
        }
        if min_p > 0.0 {
            self.candidates.retain(|&(weight, _)| weight >= min_p);
        }
        // The order of a selection is not part of its promise; the order of a draw is.
        self.candidates.sort_unstable_by_key(|&(_, id)| id);
        let total: f64 = self
            .candidates
            .iter()
            .map(|&(weight, _)| f64::from(weight))
            .sum();
        let mut left = self.unit() * total;
        let mut chosen = argmax(&self.adjusted);
        for &(weight, id) in &self.candidates {
            if weight > 0.0 {
                chosen = id;
                left -= f64::from(weight);
                if left < 0.0 {
                    break;
                }
            }
        }
        chosen
    }
}

/// Keeps the fewest heaviest candidates that reach `share` of the weight.
///
/// Sorts only as many as it needs: a nucleus is mostly a few dozen tokens of a large vocabulary.
fn keep_nucleus(candidates: &mut Vec<(f32, u32)>, share: f32) {
    let target = f64::from(share)
        * candidates
            .iter()
            .map(|&(weight, _)| f64::from(weight))
            .sum::<f64>();
    let mut sorted = 0;
    let mut reached = 0.0;
    while sorted < candidates.len() {
        let end = (sorted * 4)
            .clamp(64, candidates.len().max(64))
            .min(candidates.len());
        if end < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(end - sorted, by_weight);
        }
        candidates[sorted..end].sort_unstable_by(by_weight);
        for index in sorted..end {
            reached += f64::from(candidates[index].0);
            if reached >= target {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted = end;
    }
}

/// Heaviest first; equal weights by id.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that sorting asks for"
)]
fn by_weight(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Index of the greatest number, the first of equals.
fn argmax(values: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] {
            best = index;
        }
    }
    best as u32
}

/// Natural logarithm of the sum of the exponentials.
pub(crate) fn log_sum_exp(logits: &[f32], scratch: &mut Vec<f32>) -> f32 {
    scratch.clear();
    scratch.extend_from_slice(logits);
    scratch.resize(
        logits.len().next_multiple_of(simd::LANES),
        f32::NEG_INFINITY,
    );
    let greatest = simd::greatest(kernels::isa(), scratch);
    greatest + simd::exp_sum(kernels::isa(), scratch, greatest).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(settings: SamplingSettings, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(settings).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits, &[]).unwrap().id as usize] += 1;
        }
        counts
    }

    fn warm() -> SamplingSettings {
        SamplingSettings {
            temperature: 1.0,
            ..SamplingSettings::default()
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let probabilities = [0.5f32, 0.25, 0.125, 0.125];
        let logits = probabilities.map(f32::ln);
        let counts = counts(warm(), &logits, 20_000);
        for (count, probability) in counts.iter().zip(probabilities) {
            assert!(
                (*count as f32 / 20_000.0 - probability).abs() < 0.015,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn filters_keep_what_they_promise() {
        let logits = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
        let kept = |settings| {
            counts(settings, &logits, 2_000)
                .iter()
                .map(|&count| count > 0)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            kept(SamplingSettings { top_k: 2, ..warm() }),
            [true, true, false, false]
        );
        assert_eq!(
            kept(SamplingSettings {
                top_p: 0.6,
                ..warm()
            }),
            [true, true, false, false]
        );
        assert_eq!(
            kept(SamplingSettings {
                top_p: 0.01,
                ..warm()
            }),
            [true, false, false, false]
        );
        assert_eq!(
            kept(SamplingSettings {
                min_p: 0.49,
                ..warm()
            }),
            [true, true, true, false]
        );
        assert_eq!(
            kept(SamplingSettings {
                temperature: 0.01,
                ..warm()
            }),
            [true, false, false, false]
        );
        assert_eq!(kept(warm()), [true; 4]);
    }

    #[test]
    fn a_nucleus_of_a_large_vocabulary_is_exact() {
        let mut candidates: Vec<(f32, u32)> = (0..10_000u32)
            .map(|id| (1.0 + (id * 7919 % 10_007) as f32, id))
            .collect();
        let mut sorted = candidates.clone();
        sorted.sort_unstable_by(by_weight);
        let total: f64 = sorted.iter().map(|&(weight, _)| f64::from(weight)).sum();
        let mut sum = 0.0;
        let cut = sorted.iter().position(|&(weight, _)| {
            sum += f64::from(weight);
            sum >= f64::from(0.7f32) * total
        });
        sorted.truncate(cut.unwrap() + 1);
        keep_nucleus(&mut candidates, 0.7);
        assert_eq!(candidates, sorted);
    }

    #[test]
    fn a_seed_fixes_the_sequence() {
        let logits: Vec<f32> = (0..1000).map(|i| (i % 17) as f32 / 3.0).collect();
        let run = |seed| {
            let settings = SamplingSettings {
                seed,
                top_p: 0.9,
                top_k: 300,
                ..warm()
            };
            let mut sampler = Sampler::new(settings).unwrap();
            (0..20)
                .map(|_| sampler.sample(&logits, &[]).unwrap().id)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn repetition_is_penalised_once_per_token() {
        let settings = SamplingSettings {
            repetition_penalty: 2.0,
            ..SamplingSettings::default()
        };
        let mut sampler = Sampler::new(settings).unwrap();
        assert_eq!(sampler.sample(&[4.0, 3.0, 0.0], &[0, 0, 0]).unwrap().id, 1);
        assert_eq!(sampler.sample(&[4.0, 1.5, 0.0], &[0, 0, 0]).unwrap().id, 0);
        assert_eq!(sampler.sample(&[-1.0, -1.5], &[0]).unwrap().id, 1);
    }

    #[test]
    fn logprob_is_of_the_unchanged_logits() {
        let mut sampler = Sampler::new(SamplingSettings {
            temperature: 0.5,
            ..warm()
        })
        .unwrap();
        let choice = sampler.sample(&[0.0; 4], &[]).unwrap();
        assert!((choice.logprob - 0.25f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn settings_and_logits_out_of_range_are_refused() {
        for (settings, name) in [
            (
                SamplingSettings {
                    temperature: -1.0,
                    ..warm()
                },
                "temperature",
            ),
            (
                SamplingSettings {
                    temperature: f32::NAN,
                    ..warm()
                },
                "temperature",
            ),
            (
                SamplingSettings {
                    top_p: 0.0,
                    ..warm()
                },
                "top_p",
            ),
            (
                SamplingSettings {
                    min_p: 1.5,
                    ..warm()
                },
                "min_p",
            ),
            (
                SamplingSettings {
                    repetition_penalty: 0.0,
                    ..warm()
                },
                "repetition_penalty",
            ),
        ] {
            assert!(
                Sampler::new(settings)
                    .unwrap_err()
                    .to_string()
                    .contains(name)
            );
        }
        let mut sampler = Sampler::new(warm()).unwrap();
        for logits in [
            [f32::NAN, 0.0],
            [f32::INFINITY, 0.0],
            [f32::NEG_INFINITY; 2],
        ] {
            assert_eq!(
                sampler.sample(&logits, &[]),
                Err(InferenceError::NotFinite { what: "logits" })
            );
        }
        assert_eq!(
            sampler.sample(&[f32::NEG_INFINITY, 0.0], &[]).unwrap().id,
            1
        );
    }
}
