//! A text with each of several others, as models take them that read two at once.

use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{
    Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::guard::guarded;
use crate::{Tokenizer, TokenizerError, pipeline};

/// Ids of pairs of texts, one pair after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairEncodings {
    /// All ids, special tokens included.
    pub ids: Vec<u32>,
    /// To which of its two texts each token belongs, as the model was told in training.
    pub types: Vec<u8>,
    /// Pair `i` has ids `bounds[i]..bounds[i + 1]`; `bounds[0]` is 0.
    pub bounds: Vec<usize>,
}

impl Tokenizer {
    /// Encodes `first` with each of `seconds`; what they spell is text, and no control token.
    ///
    /// The ends of both are cut off, of the longer one first, so that a pair has at most `max_length` tokens.
    ///
    /// # Errors
    /// `max_length` leaves no room for the special tokens, or the model has no id for a piece of a text.
    pub fn encode_pairs<T: AsRef<str>>(
        &self,
        first: &str,
        seconds: &[T],
        max_length: usize,
    ) -> Result<PairEncodings, TokenizerError> {
        let processor = self.inner.get_post_processor();
        let special = processor.map_or(0, |processor| processor.added_tokens(true));
        let Some(room) = max_length.checked_sub(special) else {
            return Err(TokenizerError::MaxLength {
                max_length,
                special,
            });
        };
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: room,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        let mut pairs = PairEncodings {
            ids: Vec::new(),
            types: Vec::new(),
            bounds: vec![0],
        };
        let first = self.encoding_of_text(first, 0)?;
        for (index, second) in seconds.iter().enumerate() {
            let mut second = self.encoding_of_text(second.as_ref(), index)?;
            second.set_type_ids(vec![1; second.len()]);
            let joined = guarded(|| {
                let cut = truncate_encodings(first.clone(), Some(second), &truncation);
                let (first, second) = cut.map_err(|error| error.to_string())?;
                self.inner
                    .post_process(first, second, true)
                    .map_err(|error| error.to_string())
            });
            let joined = joined
                .and_then(|joined| joined)
                .map_err(|detail| TokenizerError::Encode { index, detail })?;
            pairs.ids.extend(joined.get_ids());
            let types = joined.get_type_ids().iter();
            pairs.types.extend(types.map(|&kind| u8::from(kind > 0)));
            pairs.bounds.push(pairs.ids.len());
        }
        Ok(pairs)
    }

    /// One text without special tokens, text number `index` in messages.
    fn encoding_of_text(&self, text: &str, index: usize) -> Result<Encoding, TokenizerError> {
        guarded(|| {
            let pieces = pipeline::split(&self.inner, &self.plain, text)?;
            pipeline::encoding_of(&self.inner, Some(&self.controls), pieces)
        })
        .and_then(|result: tokenizers::Result<_>| result.map_err(|error| error.to_string()))
        .map_err(|detail| TokenizerError::Encode { index, detail })
    }
}
