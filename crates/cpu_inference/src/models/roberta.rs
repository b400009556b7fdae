//! `RoBERTa` and XLM-R (multilingual E5, BGE-M3, BGE rerankers): BERT whose positions begin behind padding.
//!
//! Source: arXiv:1907.11692, arXiv:1911.02116; tensor names of Hugging Face `RobertaModel`.

use super::bert::{BERT, with_bias};
use crate::family::{Checkpoint, Classifier, ConfigKeys, Family};

pub(crate) const ROBERTA: Family = Family {
    name: "roberta",
    model_types: &["roberta", "xlm-roberta"],
    classifier: Some(Classifier {
        dense: with_bias("classifier.dense"),
        activation: "tanh",
        norm: None,
        output: with_bias("classifier.out_proj"),
    }),
    config: ConfigKeys {
        tokenizer: None,
        is_padded: true,
        ..BERT.config
    },
    checkpoint: Checkpoint {
        wrapper: "roberta.",
        unused: &["pooler.", "lm_head.", "classifier."],
        ..BERT.checkpoint
    },
    ..BERT
};
