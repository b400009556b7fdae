//! A model's description, as `metadata.json` gives it.

use serde::Deserialize;

use crate::error::{InferenceError, Result};
use crate::family::Family;

/// Larger extents than any model has; keeps products of two or three of them inside `usize`.
const MAX_EXTENT: usize = 1 << 20;

/// How a sequence's hidden states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Mean over the tokens.
    Mean,
    /// First token.
    Cls,
    /// Last token.
    Last,
    /// The largest number of each dimension.
    Max,
    /// Sum over the tokens, divided by the square root of their number.
    MeanSqrt,
    /// Mean over the tokens, each as often as its place in the text: the first once, the second twice.
    WeightedMean,
}

impl Pooling {
    /// Names that [`Pooling::parse`] takes.
    pub const SUPPORTED: &'static str = "mean, cls, last, max, mean_sqrt, weighted_mean";

    /// Reads a name.
    ///
    /// # Errors
    /// [`InferenceError::Unsupported`] for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "last" => Ok(Self::Last),
            "max" => Ok(Self::Max),
            "mean_sqrt" => Ok(Self::MeanSqrt),
            "weighted_mean" => Ok(Self::WeightedMean),
            _ => Err(InferenceError::Unsupported {
                feature: "pooling",
                got: name.to_owned(),
                supported: Self::SUPPORTED,
            }),
        }
    }
}

/// Everything the forward pass needs to know beside the weights.
///
/// Keys of `metadata.json` that only other parts read are ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelConfig {
    /// Family, as [`Family::name`] spells it.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; defaults to `num_heads`.
    #[serde(default)]
    pub num_kv_heads: Option<usize>,
    /// Width of a head; defaults to `hidden_size / num_heads`.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the variance in norms.
    pub norm_eps: f32,
    /// Activation of the feed-forward layer.
    pub hidden_act: String,
    /// Base of the rotary frequencies.
    #[serde(default)]
    pub rope_theta: Option<f64>,
    /// Change of the rotary frequencies, as Hugging Face configurations write it.
    #[serde(default)]
    pub rope_scaling: Option<serde_json::Value>,
    /// Whether the head is the embedding table.
    #[serde(default)]
    pub tied_embeddings: Option<bool>,
    /// Rows of the segment table of an encoder.
    #[serde(default)]
    pub type_vocab_size: Option<usize>,
    /// Whether the attention's layers must have biases, where the family leaves it open.
    #[serde(default)]
    pub attention_bias: Option<bool>,
    /// Row of the table of positions that the first token takes.
    #[serde(default)]
    pub position_offset: usize,
    /// Tokens that those of `windowed_layers` see on either side of them.
    #[serde(default)]
    pub window_reach: usize,
    /// Blocks whose tokens see a window alone.
    #[serde(default)]
    pub windowed_layers: Vec<usize>,
    /// As `rope_theta`, in `windowed_layers`.
    #[serde(default)]
    pub window_rope_theta: Option<f64>,
    /// Scores that the head for whole texts gives; 0 without one.
    #[serde(default)]
    pub num_labels: usize,
}

impl ModelConfig {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// [`InferenceError::ConfigSyntax`], [`InferenceError::ConfigValue`] or
    /// [`InferenceError::UnsupportedArchitecture`].
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Self =
            serde_json::from_str(text).map_err(|error| InferenceError::ConfigSyntax {
                detail: error.to_string(),
            })?;
        config.validate()?;
        Ok(config)
    }

    /// The family.
    ///
    /// # Errors
    /// [`InferenceError::UnsupportedArchitecture`].
    pub fn family(&self) -> Result<&'static Family> {
        Family::named(&self.architecture)
    }

    /// Token types there are.
    #[must_use]
    pub fn token_types(&self) -> usize {
        self.type_vocab_size.unwrap_or(2)
    }

    /// How far tokens see in a block that does not see everything.
    #[must_use]
    pub fn reach(&self, layer: usize) -> Option<usize> {
        self.windowed_layers
            .contains(&layer)
            .then_some(self.window_reach)
    }

    /// Key and value heads.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.num_kv_heads.unwrap_or(self.num_heads)
    }

    /// Width of a head.
    #[must_use]
    pub fn head_width(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_heads.max(1))
    }

    fn validate(&self) -> Result<()> {
        let family = self.family()?;
        for (field, value) in [
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.kv_heads()),
            ("head_dim", self.head_width()),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            let limit = if field == "max_position_embeddings" || field == "vocab_size" {
                MAX_EXTENT * 16
            } else {
                MAX_EXTENT
            };
            check(
                field,
                (1..=limit).contains(&value),
                || format!("1 to {limit}"),
                value,
            )?;
        }
        let heads = self.num_heads;
        check(
            "num_kv_heads",
            heads.is_multiple_of(self.kv_heads()),
            || format!("a divisor of num_heads = {heads}"),
            self.kv_heads(),
        )?;
        check(
            "norm_eps",
            self.norm_eps.is_finite() && self.norm_eps >= 0.0,
            || "a finite number >= 0".to_owned(),
            self.norm_eps,
        )?;
        let width = self.head_width();
        if family.is_rotary {
            check(
                "head_dim",
                width.is_multiple_of(2),
                || "an even number".to_owned(),
                width,
            )?;
        }
        if !family.is_decoder {
            let hidden = self.hidden_size;
            let expected = || format!("hidden_size / num_heads of {hidden} / {heads}");
            check("head_dim", width * heads == hidden, expected, width)?;
            let kv_heads = self.kv_heads();
            check(
                "num_kv_heads",
                kv_heads == heads,
                || format!("num_heads = {heads}"),
                kv_heads,
            )?;
        }
        if family.types.is_some() {
            let types = self.token_types();
            check(
                "type_vocab_size",
                (1..=MAX_EXTENT).contains(&types),
                || format!("1 to {MAX_EXTENT}"),
                types,
            )?;
        }
        self.validate_options(family)
    }

    /// What not every family has.
    fn validate_options(&self, family: &Family) -> Result<()> {
        for (field, value, is_there) in [
            (
                "position_offset",
                self.position_offset,
                family.positions.is_some(),
            ),
            ("num_labels", self.num_labels, family.classifier.is_some()),
            ("window_reach", self.window_reach, family.config.has_windows),
            (
                "windowed_layers",
                self.windowed_layers.iter().max().map_or(0, |last| last + 1),
                family.config.has_windows,
            ),
        ] {
            let limit = match field {
                _ if !is_there => 0,
                "windowed_layers" => self.num_layers,
                "window_reach" => MAX_EXTENT * 16,
                _ => MAX_EXTENT,
            };
            check(field, value <= limit, || format!("0 to {limit}"), value)?;
        }
        Ok(())
    }
}

fn check(
    field: &'static str,
    valid: bool,
    expected: impl FnOnce() -> String,
    got: impl std::fmt::Display,
) -> Result<()> {
    if valid {
        return Ok(());
    }
    Err(InferenceError::ConfigValue {
        field,
        expected: expected(),
        got: got.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut value = serde_json::json!({
            "architecture": "llama", "hidden_size": 64, "num_layers": 2, "num_heads": 4,
            "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 32,
            "norm_eps": 1e-5, "hidden_act": "silu",
        });
        change(&mut value);
        value.to_string()
    }

    #[test]
    fn defaults_follow_from_the_sizes() {
        let config = ModelConfig::from_json(&text(|_| ())).unwrap();
        assert_eq!((config.kv_heads(), config.head_width()), (4, 16));
    }

    #[test]
    fn faults_are_named() {
        let fault = |change: fn(&mut serde_json::Value)| {
            ModelConfig::from_json(&text(change))
                .unwrap_err()
                .to_string()
        };
        assert!(fault(|v| v["architecture"] = "gpt2".into()).contains("bert, llama"));
        assert!(fault(|v| v["num_heads"] = 0.into()).contains("num_heads"));
        assert!(fault(|v| v["num_kv_heads"] = 3.into()).contains("divisor of num_heads = 4"));
        assert!(fault(|v| v["head_dim"] = 15.into()).contains("even"));
        assert!(fault(|v| v["hidden_size"] = "wide".into()).contains("invalid type"));
        assert!(
            fault(|v| drop(v.as_object_mut().unwrap().remove("vocab_size"))).contains("vocab_size")
        );
        assert!(fault(|v| v["num_layers"] = u64::MAX.into()).contains("num_layers"));
    }
}
