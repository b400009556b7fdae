"""Items packed to passages, as a memory holds them, and what in them is near a question."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import groupby

from documents import Document, Item

__all__ = ["Passage", "Passages", "words"]

_MOST_CHARS = 850
_LONGEST_BLOCK = 1400
_SEPARATOR = "\n\n"
_IDENTIFIER = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Words and the parts of identifiers, lower case."""
    return _IDENTIFIER.findall(text.lower())


@dataclass
class Passage:
    """Some items of a section.

    Attributes:
        text: with or without the line of headings before it.
        document: index of its document in the package.
        terms: that are defined in it.
    """

    text: str
    document: int
    headings: tuple[str, ...]
    terms: set[str] = field(default_factory=set)


class Passages:
    """Those of a package.

    Attributes:
        all: passages.
        places: by the identity of an item: index of its passage, and where the item begins and ends in it.
    """

    def __init__(self, documents: list[Document], rng: random.Random) -> None:
        self.all: list[Passage] = []
        self.places: dict[int, tuple[int, int, int]] = {}
        self._rng = rng
        for number, document in enumerate(documents):
            for headings, items in groupby(document.items, key=lambda item: item.headings):
                self._pack(list(items), headings, number)
        self._postings: dict[str, list[int]] = defaultdict(list)
        for number, passage in enumerate(self.all):
            for word in set(words(passage.text)):
                self._postings[word].append(number)

    def _pack(self, items: list[Item], headings: tuple[str, ...], document: int) -> None:
        sizes = [min(len(item.shown), _LONGEST_BLOCK) for item in items]
        # Passages of about equal length rather than full ones and a rest.
        count = max(1, math.ceil(sum(sizes) / _MOST_CHARS))
        target = sum(sizes) / count
        current: list[Item] = []
        length = 0
        for item, size in zip(items, sizes, strict=True):
            if current and (length + size > _LONGEST_BLOCK or length >= target):
                self._close(current, headings, document)
                current, length = [], 0
            current.append(item)
            length += size
        if current:
            self._close(current, headings, document)

    def _close(self, items: list[Item], headings: tuple[str, ...], document: int) -> None:
        text = " > ".join(headings[-3:]) + "\n" if headings and self._rng.random() < 0.6 else ""
        terms = set()
        for item in items:
            shown = item.shown[:_LONGEST_BLOCK]
            if len(shown) < len(item.shown):
                shown = shown[: shown.rfind(" ")]
            if text and not text.endswith("\n"):
                text += "\n" if item.kind == "row" else _SEPARATOR
            self.places[id(item)] = len(self.all), len(text), len(text) + len(shown)
            text += shown
            if item.term:
                terms.update(words(item.term))
        self.all.append(Passage(text, document, headings, terms))

    def nearest(self, question: str, barred: set[int], count: int) -> list[int]:
        """Passages that share the rarest words with a question, best first."""
        total = len(self.all)
        scores: Counter[int] = Counter()
        for word in set(words(question)):
            found = self._postings.get(word, ())
            if found and len(found) < 0.5 * total + 5:
                weight = math.log(1 + total / len(found))
                for number in found:
                    scores[number] += weight
        return [number for number, _ in scores.most_common(count + len(barred)) if number not in barred][
            :count
        ]
