//! The model of a tokenizer.json, read in one pass into flat tables.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokenizers::models::ModelWrapper;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;

use crate::bpe::Bpe;
use crate::model::Model;
use crate::vocab::Vocab;
use crate::word_piece::WordPiece;

/// A model whose `type` comes first and whose merges come after its vocabulary, as every current
/// writer puts them. What is read otherwise, or is of a rarer form, is an error here, and then read by
/// the `tokenizers` crate.
pub(crate) struct ModelFile(pub(crate) Model);

impl<'de> Deserialize<'de> for ModelFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = ModelFile;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a model that begins with its type")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ModelFile, A::Error> {
        if map.next_key::<Text>()?.is_none_or(|key| key.0 != "type") {
            return Err(A::Error::custom("the model does not begin with its type"));
        }
        let kind: Text = map.next_value()?;
        let model = match kind.0.as_ref() {
            "BPE" => read_bpe(map)?,
            "WordPiece" => read_word_piece(map)?,
            "WordLevel" => other(WordLevel::deserialize(MapAccessDeserializer::new(map))?),
            "Unigram" => other(Unigram::deserialize(MapAccessDeserializer::new(map))?),
            unknown => return Err(A::Error::custom(format!("unknown model type {unknown:?}"))),
        };
        Ok(ModelFile(model))
    }
}

fn other(model: impl Into<ModelWrapper>) -> Model {
    Model::Other(Box::new(model.into()))
}

fn read_bpe<'de, A: MapAccess<'de>>(mut map: A) -> Result<Model, A::Error> {
    let (mut vocab, mut merges, mut ignore_merges) = (None, None, false);
    while let Some(key) = map.next_key::<Text>()? {
        match key.0.as_ref() {
            "vocab" => vocab = Some(map.next_value::<VocabFile>()?.0),
            "merges" => {
                let vocab = vocab
                    .as_ref()
                    .ok_or_else(|| A::Error::custom("merges before the vocabulary"))?;
                merges = Some(map.next_value_seed(Merges(vocab))?);
            }
            "ignore_merges" => ignore_merges = map.next_value()?,
            "unk_token" | "continuing_subword_prefix" | "end_of_word_suffix" => {
                let text: Option<Text> = map.next_value()?;
                if text.is_some_and(|text| key.0 == "unk_token" || !text.0.is_empty()) {
                    return Err(A::Error::custom(format!("{} is set", key.0)));
                }
            }
            "byte_fallback" if map.next_value()? => {
                return Err(A::Error::custom("byte_fallback is set"));
            }
            "dropout"
                if map
                    .next_value::<Option<f32>>()?
                    .is_some_and(|rate| rate != 0.0) =>
            {
                return Err(A::Error::custom("dropout is set"));
            }
            "byte_fallback" | "dropout" => {}
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    match (vocab, merges) {
        (Some(vocab), Some(merges)) => Ok(Model::Bpe(Box::new(Bpe::new(
            vocab,
            &merges,
            ignore_merges,
        )))),
        _ => Err(A::Error::custom("missing vocab or merges")),
    }
}

fn read_word_piece<'de, A: MapAccess<'de>>(mut map: A) -> Result<Model, A::Error> {
    let (mut vocab, mut unknown, mut prefix, mut limit) = (None, None, None, None);
    while let Some(key) = map.next_key::<Text>()? {
        match key.0.as_ref() {
            "vocab" => vocab = Some(map.next_value::<VocabFile>()?.0),
            "unk_token" => unknown = Some(map.next_value::<Text>()?),
            "continuing_subword_prefix" => prefix = Some(map.next_value::<Text>()?),
            "max_input_chars_per_word" => limit = Some(map.next_value()?),
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    let (Some(vocab), Some(unknown), Some(prefix), Some(limit)) = (vocab, unknown, prefix, limit)
    else {
        return Err(A::Error::custom(
            "missing vocab, unk_token, continuing_subword_prefix or max_input_chars_per_word",
        ));
    };
    WordPiece::new(vocab, &prefix.0, &unknown.0, limit)
        .map(|words| Model::WordPiece(Box::new(words)))
        .ok_or_else(|| A::Error::custom("the vocabulary lacks unk_token"))
}

/// Text borrowed from the file where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

struct VocabFile(Vocab);

impl<'de> Deserialize<'de> for VocabFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabVisitor;
        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = VocabFile;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a map from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut vocab = Vocab::default();
                while let Some((token, id)) = map.next_entry::<Text, u32>()? {
                    vocab.insert(&token.0, id);
                }
                if !vocab.index_ids() {
                    return Err(A::Error::custom("ids are far apart"));
                }
                Ok(VocabFile(vocab))
            }
        }
        deserializer.deserialize_map(VocabVisitor)
    }
}

/// Reads merges, `["a", "b"]` or `"a b"`, as ids: (left, right, merged).
struct Merges<'v>(&'v Vocab);

impl<'de> serde::de::DeserializeSeed<'de> for Merges<'_> {
    type Value = Vec<(u32, u32, u32)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Merges<'_> {
    type Value = Vec<(u32, u32, u32)>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut merges = Vec::with_capacity(self.0.len());
        let mut joined = String::new();
        while let Some(Merge(left, right)) = list.next_element::<Merge>()? {
            joined.clear();
            joined.push_str(&left);
            joined.push_str(&right);
            let id = |token: &str| {
                self.0
                    .id(token)
                    .ok_or_else(|| A::Error::custom(format!("merged token {token:?} has no id")))
            };
            merges.push((id(&left)?, id(&right)?, id(&joined)?));
        }
        Ok(merges)
    }
}

struct Merge<'a>(Cow<'a, str>, Cow<'a, str>);

impl<'de> Deserialize<'de> for Merge<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a pair of tokens")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, line: &'de str) -> Result<Self::Value, E> {
        let (left, right) = halves(line)?;
        Ok(Merge(Cow::Borrowed(left), Cow::Borrowed(right)))
    }

    fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Self::Value, E> {
        let (left, right) = halves(line)?;
        Ok(Merge(
            Cow::Owned(left.to_owned()),
            Cow::Owned(right.to_owned()),
        ))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Self::Value, A::Error> {
        let (left, right, end) = (
            pair.next_element::<Text>()?,
            pair.next_element::<Text>()?,
            pair.next_element::<IgnoredAny>()?,
        );
        match (left, right, end) {
            (Some(left), Some(right), None) => Ok(Merge(left.0, right.0)),
            _ => Err(A::Error::custom("a merge is not a pair")),
        }
    }
}

/// The header some files carry, `#version: 0.2`, is no merge: the crate's reader knows it.
fn halves<E: serde::de::Error>(line: &str) -> Result<(&str, &str), E> {
    line.split_once(' ')
        .filter(|(left, right)| !right.contains(' ') && !left.starts_with("#version"))
        .ok_or_else(|| E::custom("a merge is not a pair"))
}
