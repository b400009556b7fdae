"""What tokens write behind others."""

from __future__ import annotations

from collections.abc import Sequence

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer

__all__ = ["TokenTexts"]

_UNFINISHED = "\ufffd"
_ANCHOR = "a"


class TokenTexts:
    """Texts of tokens with one more behind them; what a token writes is asked once.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        self._anchor = self.ids(_ANCHOR)
        self._width = len(tokenizer.decode(self._anchor))
        self._pieces: dict[int, str] = {}

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, in which nothing is a special token."""
        encoded = self._tokenizer.encode(
            text, add_special_tokens=False, padding=False, split_special_tokens=True
        )
        found: list[int] = encoded.flat_ids.tolist()
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return self._tokenizer.decode(tokens) if tokens else ""

    def following(self, tokens: Sequence[int], text: str, id: int) -> str:
        """The text of some tokens, which is `text`, and one more.

        A token may hold a part of a character, or write a blank unless it is the first: then all are decoded.
        """
        if not tokens or text.endswith(_UNFINISHED):
            return self.text([*tokens, id])
        piece = self._pieces.get(id)
        if piece is None:
            piece = self._pieces[id] = self._tokenizer.decode([*self._anchor, id])[self._width :]
        return text + piece
