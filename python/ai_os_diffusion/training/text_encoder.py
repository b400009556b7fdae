"""Examples to ids, as an engine that writes with the card will lay them out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.example import Example
from ai_os_diffusion.training.settings import CardSettings, Token
from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["SpecialIds", "TextEncoder"]


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """The tokens that texts never hold.

    Attributes:
        mask: of an open position; -1 where none is asked for.
        null: for nothing, which fills what a text leaves of its room; -1 as above.
        end: those that end a text; the first is the one that is learned.
    """

    mask: int
    null: int
    end: tuple[int, ...]

    @classmethod
    def of(
        cls, settings: CardSettings, tokenizer: FastTokenizer, metadata: ModelMetadata, *, masks: bool
    ) -> SpecialIds:
        """Look them up; those of masked text only where `masks` is set.

        Raises:
            ConfigurationError: one is not named and the model has none, is not in the vocabulary, or is two
                of them at once.
        """
        vocab = metadata.vocab_size
        own = tokenizer.eos_id
        ends = tuple(_id(tokenizer, token, "card.end", vocab) for token in settings.end)
        ends = ends or metadata.eos_token_ids or (() if own is None else (own,))
        if not ends:
            raise ConfigurationError("card.end is missing: the model names no token that ends a text")
        if not masks:
            return cls(-1, -1, ends)
        mask, null = (
            None if token is None else _id(tokenizer, token, f"card.{name}", vocab)
            for name, token in (("mask", settings.mask), ("null", settings.null))
        )
        mask = tokenizer.mask_id if mask is None else mask
        if mask is None or null is None:
            special = ", ".join(
                f"{id} {tokenizer.id_to_token(id)}" for id in sorted(tokenizer.special_ids)[:24]
            )
            raise ConfigurationError(
                f"card.{'mask' if mask is None else 'null'} is missing: name a token that texts never hold; "
                f"special tokens of the model: {special or 'none'}"
            )
        if mask == null or {mask, null} & set(ends):
            raise ConfigurationError(
                f"card: mask is {mask}, null {null}, end {list(ends)}; expected three kinds of tokens"
            )
        return cls(mask, null, ends)


class TextEncoder:
    """Text to ids, in which no text becomes a control token.

    Args:
        folder: of the model.
        settings: the tokens and the template of prompts.
        masks: whether texts are masked.
    """

    def __init__(self, folder: Path, settings: CardSettings, *, masks: bool) -> None:
        self._tokenizer, self._template = FastTokenizer(folder), settings.chat_template
        metadata = ModelMetadata.from_folder(folder)
        self.special = SpecialIds.of(settings, self._tokenizer, metadata, masks=masks)
        self._masks = masks

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = text_ids(self._tokenizer, text).tolist()
        return ids

    def prompt(self, text: str) -> list[int]:
        """Ids of a user's turn and of the beginning of the answer; of a model without turns, of the text."""
        ids: list[int] = turn_ids(self._tokenizer, text, self._template).tolist()
        return ids

    def canvas(self, example: Example, block: int, extra: int = 0) -> tuple[list[int], list[bool]]:
        """The finished canvas of an example.

        A written piece among given ones gets `room` positions, or `extra` more than it needs; one that ends
        the turn is filled to a multiple of `block`. What is over holds NULL. Of a text that is not masked
        nothing is over, and what stands behind a written piece is written as far as it tells that this ends.

        Returns:
            Ids, and for each whether it is written.
        """
        null, end = self.special.null, self.special.end[0]
        ids: list[int] = []
        written: list[bool] = []
        is_behind = False
        for piece in example.pieces:
            found = self.encode(piece.text) if piece.text else []
            if piece.written and example.has_gaps and self._masks:
                found += [null] * (max(example.room, len(found) + extra) - len(found))
            ids += found
            written += [piece.written or (is_behind and not at) for at in range(len(found))]
            is_behind = not self._masks and (piece.written or (is_behind and not found))
        if example.ends:
            # Behind given pieces the end of the turn is no news.
            over = 0 if example.has_gaps or not self._masks else -(len(ids) + 1) % block
            rest = [end] + [null] * over
            ids += rest
            written += [not example.has_gaps] * len(rest)
        return ids, written


def _id(tokenizer: FastTokenizer, token: Token, name: str, vocab: int) -> int:
    found = token if isinstance(token, int) else tokenizer.token_to_id(token)
    if found is None or not 0 <= found < vocab:
        raise ConfigurationError(f"{name} is {token!r}, expected a token of the model's {vocab}")
    return found
