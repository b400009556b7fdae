"""Which texts share a run of words with texts for evaluation."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

__all__ = ["Runs"]

_WORD = re.compile(r"\w+")
LENGTH = 12


class Runs:
    """The runs of so many words of some texts, as hashes.

    Args:
        texts: for evaluation.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        found = [part for text in texts if len(part := hashes(text))]
        self._known = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return len(self._known)

    def shares(self, text: str) -> bool:
        """Whether a text holds one of the runs."""
        own = hashes(text)
        if not len(own) or not len(self._known):
            return False
        at = np.searchsorted(self._known, own)
        return bool((self._known[np.minimum(at, len(self._known) - 1)] == own).any())


def hashes(text: str) -> np.ndarray:
    """uint64[words - 11] of the runs of a text; none of a short one."""
    values = np.array([_word(word) for word in _WORD.findall(text.lower())], np.uint64)
    if len(values) < LENGTH:
        return np.zeros(0, np.uint64)
    out = np.zeros(len(values) - LENGTH + 1, np.uint64)
    for at in range(LENGTH):
        out = out * np.uint64(0x9E3779B97F4A7C15) + values[at : at + len(out)]
    return out


@lru_cache(maxsize=1 << 20)
def _word(word: str) -> int:
    data = word.encode()
    return zlib.crc32(data) << 32 | zlib.adler32(data)
