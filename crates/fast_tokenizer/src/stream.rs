//! Text out of a growing list of ids.

use crate::{Tokenizer, TokenizerError};

/// Ids kept when nothing certain comes: a model that emits broken UTF-8 without end must not make
/// each step slower than the one before.
const MAX_WINDOW: usize = 64;

/// A character of UTF-8 has at most this many bytes missing, each shown as one replacement mark.
const MAX_INCOMPLETE: usize = 3;

/// Decodes ids one at a time; the pieces joined equal the decoding of all ids.
///
/// A piece ends at a whole character. What precedes a token decides about spaces around it, so the
/// window starts with tokens already shown, never with ones that show nothing. One case may
/// differ: tokenizers that spell bytes as tokens (`<0xE4>`) turn a whole run of such tokens into
/// replacement marks if any byte in it is broken, even characters streamed before.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    skip_special_tokens: bool,
    window: Vec<u32>,
    /// Ids at the start of the window that are context only.
    context: usize,
    /// Bytes of the window's text already given out.
    shown: usize,
}

impl DecodeStream {
    /// Starts before the first token.
    #[must_use]
    pub fn new(skip_special_tokens: bool) -> Self {
        Self {
            skip_special_tokens,
            window: Vec::new(),
            context: 0,
            shown: 0,
        }
    }

    /// Takes one id and returns the text that is now certain, often a word, sometimes nothing.
    ///
    /// # Errors
    /// The decoder refuses the tokens.
    pub fn step(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, TokenizerError> {
        if self.skip_special_tokens && tokenizer.is_special(id) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = tokenizer.decode(&self.window, self.skip_special_tokens)?;
        let certain = if self.window.len() - self.context > MAX_WINDOW {
            text.len()
        } else if tokenizer.is_byte(id) && text.ends_with(char::REPLACEMENT_CHARACTER) {
            // The decoder shows a mark for every byte of the run, the whole characters in it too.
            self.shown
        } else {
            certain(&text)
        };
        let piece = text.get(self.shown..certain).unwrap_or_default().to_owned();
        self.shown = self.shown.max(certain);
        if certain == text.len() && !piece.is_empty() {
            self.advance(tokenizer)?;
        }
        Ok(piece)
    }

    /// Returns what was held back, at the end of the ids.
    ///
    /// # Errors
    /// The decoder refuses the tokens.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        let text = tokenizer.decode(&self.window, self.skip_special_tokens)?;
        let piece = text.get(self.shown..).unwrap_or_default().to_owned();
        *self = Self::new(self.skip_special_tokens);
        Ok(piece)
    }

    /// Makes the tokens shown last the context of the next ones.
    fn advance(&mut self, tokenizer: &Tokenizer) -> Result<(), TokenizerError> {
        self.window.drain(..self.context);
        self.context = self.window.len();
        self.shown = tokenizer
            .decode(&self.window, self.skip_special_tokens)?
            .len();
        Ok(())
    }
}

/// Length of the text without replacement marks at its end that further bytes could still change.
fn certain(text: &str) -> usize {
    let mut end = text.len();
    for _ in 0..MAX_INCOMPLETE {
        match text[..end].strip_suffix(char::REPLACEMENT_CHARACTER) {
            Some(rest) => end = rest.len(),
            None => break,
        }
    }
    end
}
