//! Reading tokenizer.json.
//!
//! `tokenizers::Tokenizer::from_bytes` builds a tree of JSON values for the whole model and then maps of owned
//! strings from it. Here the bytes are read once into flat tables, which takes a fifth of the time. Stored
//! truncation and padding are not read: they are choices of a call, not of a vocabulary.

use std::borrow::Cow;

use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer,
};

use crate::TokenizerError;
use crate::model::{Model, Pipeline};
use crate::model_file::ModelFile;

#[derive(serde::Deserialize)]
struct TokenizerFile<'a> {
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    decoder: Option<DecoderWrapper>,
    model: ModelFile,
}

/// Reads a tokenizer.json without its truncation and padding.
pub(crate) fn parse(bytes: &[u8]) -> Result<Pipeline, TokenizerError> {
    match serde_json::from_slice::<TokenizerFile>(bytes) {
        Ok(file) => assemble(file),
        // Rarer models and the files of early writers: the crate's own, slower reader knows them.
        Err(_) => parse_any(bytes),
    }
}

fn assemble(file: TokenizerFile) -> Result<Pipeline, TokenizerError> {
    if let Some(version) = file.version.as_deref().filter(|&version| version != "1.0") {
        return Err(TokenizerError::Parse {
            detail: format!("version is {version:?}, expected \"1.0\""),
        });
    }
    let mut pipeline = Pipeline::new(file.model.0);
    pipeline
        .with_normalizer(file.normalizer)
        .map_err(refused)?
        .with_pre_tokenizer(file.pre_tokenizer)
        .with_post_processor(file.post_processor)
        .with_decoder(file.decoder);
    pipeline.add_tokens(file.added_tokens).map_err(refused)?;
    Ok(pipeline)
}

fn parse_any(bytes: &[u8]) -> Result<Pipeline, TokenizerError> {
    let tokenizer = Tokenizer::from_bytes(bytes).map_err(refused)?;
    let mut pipeline = Pipeline::new(Model::Other(Box::new(tokenizer.get_model().clone())));
    pipeline
        .with_normalizer(tokenizer.get_normalizer().cloned())
        .map_err(refused)?
        .with_pre_tokenizer(tokenizer.get_pre_tokenizer().cloned())
        .with_post_processor(tokenizer.get_post_processor().cloned())
        .with_decoder(tokenizer.get_decoder().cloned())
        .with_added_vocabulary(tokenizer.get_added_vocabulary().clone());
    Ok(pipeline)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn refused(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Parse {
        detail: error.to_string(),
    }
}
