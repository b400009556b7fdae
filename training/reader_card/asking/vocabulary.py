"""The tokens of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

__all__ = ["Vocabulary"]


class Vocabulary:
    """Text to tokens and back. Text never becomes a control token, whatever it holds.

    Args:
        folder: that `unpack_model.py` wrote.

    Attributes:
        begin: token that begins a turn.
        end: token that ends it.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.begin, self.end = (self._tokenizer.token_to_id(f"<|im_{name}|>") for name in ("start", "end"))

    def tokens(self, text: str) -> list[int]:
        """Of plain text."""
        return self._tokenizer.encode(text).ids

    def many(self, texts: Sequence[str]) -> list[list[int]]:
        """Of several texts, on all cores."""
        return [one.ids for one in self._tokenizer.encode_batch(list(texts))]

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say."""
        return self._tokenizer.decode(list(tokens))

    def turn(self, role: str, text: str) -> list[int]:
        """A whole turn of a conversation, as the model was trained on (ChatML)."""
        return [self.begin, *self.tokens(f"{role}\n{text}"), self.end, *self.tokens("\n")]

    def opened(self, role: str) -> list[int]:
        """A turn that is yet to be said."""
        return [self.begin, *self.tokens(f"{role}\n")]
