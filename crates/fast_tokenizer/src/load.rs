//! Reading tokenizer.json.
//!
//! `tokenizers::Tokenizer::from_bytes` first builds a tree of JSON values for the whole model and
//! then reads the model from the tree. The same readers are handed the bytes directly here, which
//! halves the time; the result is the same object. Stored truncation and padding are not read:
//! they are choices of a call, not of a vocabulary.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::TokenizerError;

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
    model: TypedModel,
}

/// A model whose `type` comes first, as every current writer puts it.
struct TypedModel(ModelWrapper);

impl<'de> Deserialize<'de> for TypedModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TypedModelVisitor)
    }
}

struct TypedModelVisitor;

impl<'de> Visitor<'de> for TypedModelVisitor {
    type Value = TypedModel;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a model that begins with its type")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TypedModel, A::Error> {
        if map.next_key::<Cow<str>>()?.as_deref() != Some("type") {
            return Err(A::Error::custom("the model does not begin with its type"));
        }
        let kind: Cow<str> = map.next_value()?;
        let rest = MapAccessDeserializer::new(map);
        let model = match kind.as_ref() {
            "BPE" => ModelWrapper::BPE(BPE::deserialize(rest)?),
            "WordPiece" => ModelWrapper::WordPiece(WordPiece::deserialize(rest)?),
            "WordLevel" => ModelWrapper::WordLevel(WordLevel::deserialize(rest)?),
            "Unigram" => ModelWrapper::Unigram(Unigram::deserialize(rest)?),
            other => return Err(A::Error::custom(format!("unknown model type {other:?}"))),
        };
        Ok(TypedModel(model))
    }
}

/// Reads a tokenizer.json without its truncation and padding.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    match serde_json::from_slice::<TokenizerFile>(bytes) {
        Ok(file) => assemble(file),
        // Files of early writers have no type, or have it last: the crate's own, slower reader knows them.
        Err(_) => parse_any(bytes),
    }
}

fn assemble(file: TokenizerFile) -> Result<Tokenizer, TokenizerError> {
    if let Some(version) = file.version.as_deref().filter(|&version| version != "1.0") {
        return Err(TokenizerError::Parse { detail: format!("version is {version:?}, expected \"1.0\"") });
    }
    let mut tokenizer = Tokenizer::new(file.model.0);
    tokenizer
        .with_normalizer(file.normalizer)
        .with_pre_tokenizer(file.pre_tokenizer)
        .with_post_processor(file.post_processor)
        .with_decoder(file.decoder);
    tokenizer.add_tokens(&file.added_tokens);
    Ok(tokenizer)
}

fn parse_any(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let parse_error = |error: tokenizers::Error| TokenizerError::Parse { detail: error.to_string() };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(parse_error)?;
    tokenizer.with_truncation(None).map_err(parse_error)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
