"""Which tokens may stand at which place of a slot, so that what is written is a value of its type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.denoising.template import Slot
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer

__all__ = ["SlotTokens"]

Ids = NDArray[np.int32]

_FIRST = {"integer": re.compile(r"\d+|-"), "number": re.compile(r"\d+|-")}
_LATER = {"integer": re.compile(r"\d+"), "number": re.compile(r"\d+|\.")}
_BOOLEANS = ("true", "false")


class SlotTokens:
    """Tokens by what they spell.

    Args:
        tokenizer: the model's.
        null_id: the token for nothing; without one a quotation mark ends a value.
    """

    def __init__(self, tokenizer: FastTokenizer, null_id: int | None) -> None:
        self._tokenizer = tokenizer
        special = tokenizer.special_ids
        count = len(tokenizer)
        texts = tokenizer.batch_decode([[id] for id in range(count)], skip_special_tokens=False)
        self._texts = ["" if id in special else text for id, text in enumerate(texts)]
        quotes = [id for id, text in enumerate(self._texts) if text == '"']
        self._nothing = [null_id] if null_id is not None else quotes

    def allowed(self, slot: Slot, room: int, *, minus: bool = True) -> Iterator[tuple[int, Ids]]:
        """For each place of a slot that is not free, its tokens.

        Args:
            slot: the slot.
            room: its places.
            minus: whether a number may begin with a minus, which alone is none.
        """
        if slot.is_list or (slot.kind == "string" and not slot.options):
            return
        choices = self._choices(slot.options or (_BOOLEANS if slot.kind == "boolean" else ()))
        for place in range(room):
            if choices:
                tokens = {choice[place] for choice in choices if place < len(choice)}
                is_over = any(place >= len(choice) for choice in choices)
            else:
                pattern = (_LATER if place else _FIRST)[slot.kind]
                tokens = {
                    id
                    for id, text in enumerate(self._texts)
                    if pattern.fullmatch(text) and (minus or text != "-")
                }
                is_over = place > 0
            if is_over or slot.may_be_null:
                tokens.update(self._nothing)
            yield place, np.array(sorted(tokens), np.int32)

    def longest(self, slot: Slot) -> int:
        """Tokens of the longest of a slot's options; 0 where it has none."""
        return max(map(len, self._choices(slot.options)), default=0)

    def _choices(self, options: Sequence[str]) -> list[list[int]]:
        encode = self._tokenizer.encode
        return [
            encode(option, add_special_tokens=False, padding=False).flat_ids.tolist() for option in options
        ]
