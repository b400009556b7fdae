//! Rotary position embedding.
//!
//! Source: `RoFormer`, arXiv:2104.09864, in the half-split order of Hugging Face checkpoints; frequency
//! changes after Llama 3.1 and `YaRN`, arXiv:2309.00071.

use std::f64::consts::PI;

use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::{InferenceError, Result};

const DEFAULT_THETA: f64 = 10_000.0;

/// Frequencies of the rotations of one head.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// Radians per position, `[head_dim / 2]`.
    inverse_frequency: Vec<f32>,
    /// Factor on cosine and sine.
    attention_factor: f32,
}

/// Cosines and sines of some positions, each `[positions, head_dim / 2]`.
#[derive(Debug, Clone, Default)]
pub struct Angles {
    /// Of each position and frequency.
    pub cos: Vec<f32>,
    /// As `cos`.
    pub sin: Vec<f32>,
}

impl Rotary {
    /// That of the blocks which see everything.
    ///
    /// # Errors
    /// [`InferenceError::ConfigValue`] or [`InferenceError::Unsupported`].
    pub fn from_config(config: &ModelConfig) -> Result<Self> {
        Self::with_theta(config, config.rope_theta.unwrap_or(DEFAULT_THETA))
    }

    /// That of the blocks which see a window, if it is another.
    pub(crate) fn of_windows(config: &ModelConfig) -> Result<Option<Self>> {
        let theta = config.window_rope_theta;
        theta
            .map(|theta| Self::with_theta(config, theta))
            .transpose()
    }

    fn with_theta(config: &ModelConfig, theta: f64) -> Result<Self> {
        if !(theta.is_finite() && theta > 0.0) {
            return Err(InferenceError::ConfigValue {
                field: "rope_theta",
                expected: "a finite number > 0".to_owned(),
                got: theta.to_string(),
            });
        }
        let dim = config.head_width();
        let plain: Vec<f64> = (0..dim / 2)
            .map(|i| theta.powf(-((2 * i) as f64) / dim as f64))
            .collect();
        let scaling = match &config.rope_scaling {
            None | Some(Value::Null) => return Ok(Self::new(&plain, 1.0)),
            Some(value) => Scaling {
                value,
                max_positions: config.max_position_embeddings,
            },
        };
        match scaling.kind()? {
            "default" => Ok(Self::new(&plain, 1.0)),
            "linear" => {
                let factor = scaling.factor()?;
                Ok(Self::new(
                    &plain.iter().map(|f| f / factor).collect::<Vec<_>>(),
                    1.0,
                ))
            }
            "llama3" => Ok(Self::new(&scaling.llama3(&plain)?, 1.0)),
            "yarn" => {
                let (frequencies, attention_factor) = scaling.yarn(&plain, theta, dim)?;
                Ok(Self::new(&frequencies, attention_factor))
            }
            other => Err(InferenceError::Unsupported {
                feature: "rope_scaling",
                got: other.to_owned(),
                supported: "default, linear, llama3, yarn",
            }),
        }
    }

    fn new(frequencies: &[f64], attention_factor: f64) -> Self {
        Self {
            inverse_frequency: frequencies.iter().map(|&f| f as f32).collect(),
            attention_factor: attention_factor as f32,
        }
    }

    /// Fills `angles` with those of `positions`.
    pub fn angles(&self, positions: &[u32], angles: &mut Angles) {
        let Angles { cos, sin } = angles;
        cos.clear();
        sin.clear();
        for &position in positions {
            for &frequency in &self.inverse_frequency {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c * self.attention_factor);
                sin.push(s * self.attention_factor);
            }
        }
    }
}

/// A `rope_scaling` dictionary.
struct Scaling<'a> {
    value: &'a Value,
    max_positions: usize,
}

impl Scaling<'_> {
    fn kind(&self) -> Result<&str> {
        let kind = self
            .value
            .get("rope_type")
            .or_else(|| self.value.get("type"));
        kind.and_then(Value::as_str)
            .ok_or_else(|| self.fault("a dictionary with rope_type"))
    }

    fn fault(&self, expected: &str) -> InferenceError {
        InferenceError::ConfigValue {
            field: "rope_scaling",
            expected: expected.to_owned(),
            got: self.value.to_string(),
        }
    }

    fn optional(&self, key: &str) -> Option<f64> {
        self.value
            .get(key)
            .and_then(Value::as_f64)
            .filter(|value| value.is_finite())
    }

    fn positive(&self, key: &str) -> Result<f64> {
        let value = self.optional(key).filter(|value| *value > 0.0);
        value.ok_or_else(|| self.fault(&format!("a number > 0 as {key}")))
    }

    fn factor(&self) -> Result<f64> {
        self.positive("factor")
    }

    /// Long wavelengths are stretched by the factor, short ones kept, those between blended.
    fn llama3(&self, plain: &[f64]) -> Result<Vec<f64>> {
        let factor = self.factor()?;
        let low = self.positive("low_freq_factor")?;
        let high = self.positive("high_freq_factor")?;
        let original = self.positive("original_max_position_embeddings")?;
        if high <= low {
            return Err(self.fault("high_freq_factor above low_freq_factor"));
        }
        let stretch = |frequency: f64| {
            let turns = original * frequency / (2.0 * PI);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / factor)
        };
        Ok(plain.iter().map(|&frequency| stretch(frequency)).collect())
    }

    /// Dimensions that turn often keep their frequency, slow ones are interpolated, with a ramp between.
    fn yarn(&self, plain: &[f64], theta: f64, dim: usize) -> Result<(Vec<f64>, f64)> {
        let original = self.optional("original_max_position_embeddings");
        let factor = match (self.optional("factor"), original) {
            (None, Some(original)) if original > 0.0 => self.max_positions as f64 / original,
            _ => self.factor()?,
        };
        let original = original.unwrap_or(self.max_positions as f64);
        let magnitude = |mscale: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * mscale * factor.ln() + 1.0
            }
        };
        let attention_factor = match (
            self.optional("attention_factor"),
            self.optional("mscale"),
            self.optional("mscale_all_dim"),
        ) {
            (Some(given), _, _) => given,
            (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => magnitude(m) / magnitude(all),
            _ => magnitude(1.0),
        };
        let dimension_of =
            |turns: f64| dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let truncate = self
            .value
            .get("truncate")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        let mut low = dimension_of(self.optional("beta_fast").unwrap_or(32.0));
        let mut high = dimension_of(self.optional("beta_slow").unwrap_or(1.0));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min(dim as f64 - 1.0);
        if high <= low {
            high = low + 0.001;
        }
        let blend = |(index, &frequency): (usize, &f64)| {
            let interpolated = ((index as f64 - low) / (high - low)).clamp(0.0, 1.0);
            frequency * ((1.0 - interpolated) + interpolated / factor)
        };
        Ok((
            plain.iter().enumerate().map(blend).collect(),
            attention_factor,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(scaling: &Value) -> ModelConfig {
        let text = serde_json::json!({
            "architecture": "llama", "hidden_size": 32, "num_layers": 1, "num_heads": 4,
            "intermediate_size": 8, "vocab_size": 8, "max_position_embeddings": 64,
            "norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0, "rope_scaling": scaling,
        });
        ModelConfig::from_json(&text.to_string()).unwrap()
    }

    #[test]
    fn rotation_keeps_length_and_depends_on_distance_only() {
        let rotary = Rotary::from_config(&config(&Value::Null)).unwrap();
        let mut angles = Angles::default();
        rotary.angles(&[3, 7, 13, 17], &mut angles);
        let Angles { cos, sin } = angles;
        let turned = |base: [f32; 8], row: usize| {
            let mut head = base;
            kernels::rope(
                &mut head,
                &cos[row * 4..row * 4 + 4],
                &sin[row * 4..row * 4 + 4],
            );
            head
        };
        let (q, k) = (
            [1.0, 2.0, -1.0, 0.5, 0.3, 0.1, 4.0, 1.0],
            [0.2, 1.0, 2.0, 0.4, -1.0, 3.0, 0.7, 2.0],
        );
        let dot = |a: [f32; 8], b: [f32; 8]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert!((dot(turned(q, 0), turned(k, 1)) - dot(turned(q, 2), turned(k, 3))).abs() < 1e-4);
        assert!((dot(turned(q, 3), turned(q, 3)) - dot(q, q)).abs() < 1e-4);
    }

    #[test]
    fn linear_scaling_divides_positions() {
        let stretched = Rotary::from_config(&config(
            &serde_json::json!({"type": "linear", "factor": 2.0}),
        ))
        .unwrap();
        let plain = Rotary::from_config(&config(&Value::Null)).unwrap();
        let (mut short, mut long) = (Angles::default(), Angles::default());
        plain.angles(&[5], &mut short);
        stretched.angles(&[10], &mut long);
        assert_eq!((short.cos, short.sin), (long.cos, long.sin));
    }

    #[test]
    fn unknown_scaling_is_refused_by_name() {
        for value in [
            serde_json::json!({"rope_type": "longrope"}),
            serde_json::json!({"factor": 2}),
            3.into(),
        ] {
            let error = Rotary::from_config(&config(&value))
                .unwrap_err()
                .to_string();
            assert!(error.contains("rope_scaling"), "{error}");
        }
        let error =
            Rotary::from_config(&config(&serde_json::json!({"rope_type": "linear"}))).unwrap_err();
        assert!(error.to_string().contains("factor"));
    }
}
