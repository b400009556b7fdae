//! The models a tokenizer.json may hold, behind the `tokenizers` crate's interface.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::Model as _;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Result, Token, TokenizerImpl,
};

use crate::bpe::{Bpe, Symbol};
use crate::vocab::Vocab;
use crate::word_piece::WordPiece;

/// The crate's pipeline around our models.
pub(crate) type Pipeline = TokenizerImpl<
    Model,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

#[derive(Clone)]
pub(crate) enum Model {
    Bpe(Box<Bpe>),
    WordPiece(Box<WordPiece>),
    /// Unigram, `WordLevel` and the rarer forms of BPE.
    Other(Box<ModelWrapper>),
}

thread_local! {
    static SYMBOLS: RefCell<Vec<Symbol>> = const { RefCell::new(Vec::new()) };
}

impl Model {
    /// Appends the ids of one piece.
    pub(crate) fn push_ids(&self, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
        match self {
            Self::Bpe(bpe) => SYMBOLS.with_borrow_mut(|symbols| {
                bpe.cut(piece, symbols);
                ids.extend(symbols.iter().map(|symbol| symbol.id));
            }),
            Self::WordPiece(words) => words.push_ids(piece, ids),
            Self::Other(model) => ids.extend(model.tokenize(piece)?.iter().map(|token| token.id)),
        }
        Ok(())
    }

    fn vocab(&self) -> Option<&Vocab> {
        match self {
            Self::Bpe(bpe) => Some(&bpe.vocab),
            Self::WordPiece(words) => Some(&words.vocab),
            Self::Other(_) => None,
        }
    }

    fn other(&self) -> Option<&ModelWrapper> {
        match self {
            Self::Other(model) => Some(model),
            _ => None,
        }
    }
}

impl tokenizers::Model for Model {
    // The interface asks for a trainer; vocabularies are not trained here.
    type Trainer = BpeTrainer;

    fn tokenize(&self, piece: &str) -> Result<Vec<Token>> {
        match self {
            Self::Bpe(bpe) => {
                let (mut symbols, mut start) = (Vec::new(), 0);
                bpe.cut(piece, &mut symbols);
                let token = |symbol: Symbol| {
                    let value = bpe.vocab.token(symbol.id).unwrap_or_default().to_owned();
                    let end = start + symbol.len as usize;
                    let token = Token::new(symbol.id, value, (start, end));
                    start = end;
                    token
                };
                Ok(symbols.into_iter().map(token).collect())
            }
            Self::WordPiece(words) => {
                let mut tokens = Vec::new();
                let token = |id, start, end| {
                    Token::new(
                        id,
                        words.vocab.token(id).unwrap_or_default().to_owned(),
                        (start, end),
                    )
                };
                if !words.cut(piece, |id, start, end| tokens.push(token(id, start, end))) {
                    tokens = vec![token(words.unknown(), 0, piece.len())];
                }
                Ok(tokens)
            }
            Self::Other(model) => model.tokenize(piece),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self.vocab() {
            Some(vocab) => vocab.id(token),
            None => self.other()?.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self.vocab() {
            Some(vocab) => vocab.token(id).map(str::to_owned),
            None => self.other()?.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match (self.vocab(), self.other()) {
            (Some(vocab), _) => vocab
                .iter()
                .map(|(token, id)| (token.to_owned(), id))
                .collect(),
            (None, Some(model)) => model.get_vocab(),
            (None, None) => HashMap::new(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match (self.vocab(), self.other()) {
            (Some(vocab), _) => vocab.len(),
            (None, model) => model.map_or(0, tokenizers::Model::get_vocab_size),
        }
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("vocabularies are not saved here; copy the tokenizer.json".into())
    }

    fn get_trainer(&self) -> Self::Trainer {
        BpeTrainer::default()
    }
}
