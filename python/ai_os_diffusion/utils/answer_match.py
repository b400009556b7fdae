"""When two short answers say the same, as SQuAD compares them (arXiv:1606.05250)."""

from __future__ import annotations

import re
import string
from collections import Counter

__all__ = ["plain", "word_f1"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def plain(text: str) -> str:
    """A text without case, punctuation and articles."""
    letters = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", letters).split())


def word_f1(said: str, expected: str) -> float:
    """Harmonic mean of precision and recall of the words, from 0 to 1; two texts without words are equal."""
    own, words = Counter(plain(said).split()), Counter(plain(expected).split())
    return 2 * (words & own).total() / (words.total() + own.total()) if words or own else 1.0
