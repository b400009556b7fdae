"""Which tokens may stand at which place of a slot, so that what is written is a value of its type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.denoising.forms.slot import Slot
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.utils.lazy_property import lazy_property

__all__ = ["SlotTokens"]

Ids = NDArray[np.int32]

_FIRST = {"integer": re.compile(r"\d+|-"), "number": re.compile(r"\d+|-")}
_LATER = {"integer": re.compile(r"\d+"), "number": re.compile(r"\d+|\.")}
_MINUS, _QUOTE = re.compile("-"), re.compile('"')
_BOOLEANS = ("true", "false")

# Reading a vocabulary takes as long as a pass: it is read once for each tokenizer, not for each text.
_SPELLING: WeakKeyDictionary[FastTokenizer, dict[re.Pattern[str], frozenset[int]]] = WeakKeyDictionary()


class SlotTokens:
    """Tokens by what they spell.

    Args:
        tokenizer: the model's.
        null_id: the token for nothing; without one a quotation mark ends a value.
    """

    def __init__(self, tokenizer: FastTokenizer, null_id: int | None) -> None:
        self._tokenizer, self._null_id = tokenizer, null_id

    @lazy_property
    def _texts(self) -> list[str]:
        """What each token spells; the whole vocabulary is read when a slot is held to some of it."""
        tokens, special = [[id] for id in range(len(self._tokenizer))], self._tokenizer.special_ids
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=False)
        return ["" if id in special else text for id, text in enumerate(texts)]

    @lazy_property
    def _nothing(self) -> frozenset[int]:
        return frozenset([self._null_id]) if self._null_id is not None else self._spelling(_QUOTE)

    def _spelling(self, pattern: re.Pattern[str]) -> frozenset[int]:
        known = _SPELLING.setdefault(self._tokenizer, {})
        if pattern not in known:
            known[pattern] = frozenset(id for id, text in enumerate(self._texts) if pattern.fullmatch(text))
        return known[pattern]

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
        if not choices:
            first, later = (self._spelling(patterns[slot.kind]) for patterns in (_FIRST, _LATER))
            if not minus or (slot.low is not None and slot.low >= 0):
                first = first - self._spelling(_MINUS)
        for place in range(room):
            if choices:
                tokens = frozenset(choice[place] for choice in choices if place < len(choice))
                is_over = any(place >= len(choice) for choice in choices)
            else:
                tokens, is_over = (later, True) if place else (first, False)
            if is_over or slot.may_be_null or slot.is_optional:
                tokens = tokens | self._nothing
            yield place, np.array(sorted(tokens), np.int32)

    def longest(self, slot: Slot) -> int:
        """Tokens of the longest of a slot's options; 0 where it has none."""
        return max(map(len, self._choices(slot.options)), default=0)

    def _choices(self, options: Sequence[str]) -> list[list[int]]:
        encode = self._tokenizer.encode
        return [
            encode(option, add_special_tokens=False, padding=False).flat_ids.tolist() for option in options
        ]
