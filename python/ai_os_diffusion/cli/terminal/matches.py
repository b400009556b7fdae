"""Where the words of a question stand in passages, and which lines of a long passage to show."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby

from ai_os_diffusion.cli.terminal.wrapping import cells_of
from ai_os_diffusion.ingestion.splitting import sentences

__all__ = ["Line", "Matches"]

_WORD = re.compile(r"\w+")
# A shorter word is another one where letters follow.
_MIN_STEM_CHARS = 4
# Rows of a terminal that a passage may fill; most are shorter.
_ROWS = 12
_USUAL_CELLS = 76

Line = list[tuple[str, bool]]
"""A line in pieces; those that are words of the question stand out."""


class Matches:
    """Finds words of a question in passages, in other cases, without accents and with other endings too.

    How much a word tells comes from the passages themselves: one that stands in most of their sentences, or
    is short, tells little. Words that tell no more than half of what the best one does do not stand out.
    """

    def __init__(self, question: str, passages: Iterable[str]) -> None:
        """Weigh the words.

        Args:
            question: what was asked.
            passages: what was found.
        """
        asked = {term for word in _WORD.findall(question) for term in _terms(word)}
        self._stems = tuple(term for term in asked if len(term) >= _MIN_STEM_CHARS)
        self._asked = asked
        self._known: dict[str, str | None] = {}
        lines = (line for text in passages for line in text.split("\n"))
        said = [line[start:end] for line in lines for start, end in sentences(line)]
        counts = Counter(term for sentence in said for term in self._terms_in(sentence))
        told = {term: math.log((1 + len(said)) / count) * len(term) for term, count in counts.items()}
        most = max(told.values(), default=0.0)
        self._weights = {term: weight for term, weight in told.items() if 2 * weight > most or not most}

    def lines(self, text: str) -> list[Line]:
        """All lines of a passage."""
        return [self._marked(line) for line in text.split("\n")]

    def is_long(self, text: str, width: int | None) -> bool:
        """Whether `excerpt` leaves out lines of a passage."""
        return any(isinstance(line, int) for line in self.excerpt(text, width))

    def excerpt(self, text: str, width: int | None, answering: Container[int] = ()) -> list[Line | int]:
        """The lines of a passage that answer or say most on the question, and those around them.

        As many as fit a look; those that answer are never left out.

        Args:
            text: of the passage.
            width: cells of a line; None where that is unknown.
            answering: numbers of the lines that the answer stands in, from 0, if somebody knows.

        Returns:
            Lines in order; where some are left out, their number.
        """
        lines = [line.rstrip() for line in text.split("\n")]
        cells = width or _USUAL_CELLS
        rows = _ROWS
        kept: set[int] = set()
        for index in self._by_weight(lines, answering):
            rows -= max(1, math.ceil(cells_of(lines[index]) / cells))
            if kept and rows < 0 and index not in answering:
                break
            kept.add(index)
        shown: list[Line | int] = []
        for is_kept, run in groupby(range(len(lines)), key=kept.__contains__):
            numbers = list(run)
            # To say that one line is left out takes as much room as the line.
            if is_kept or len(numbers) == 1:
                shown += [self._marked(lines[index]) for index in numbers]
            else:
                shown.append(len(numbers))
        return shown

    def _by_weight(self, lines: Sequence[str], answering: Container[int]) -> list[int]:
        """Numbers of lines: that answer, that say most on the question, then those nearest to the first."""
        weights = [sum(self._weights.get(term, 0.0) for term in self._terms_in(line)) for line in lines]
        best = max(range(len(lines)), key=lambda index: (index in answering, weights[index], -index))
        # What answers mostly follows on what names it.
        return sorted(
            range(len(lines)),
            key=lambda index: (index not in answering, -weights[index], abs(index - best), index < best),
        )

    def _terms_in(self, text: str) -> set[str]:
        """Words of the question that stand in a text."""
        found = (self._asked_for(term) for word in _WORD.findall(text) for term in _terms(word))
        return {term for term in found if term}

    def _asked_for(self, term: str) -> str | None:
        """The word of the question that a word is: the same, or one goes on where the other ends."""
        if term not in self._known:
            same = term if term in self._asked else None
            self._known[term] = same or next(
                (
                    stem
                    for stem in self._stems
                    if term.startswith(stem) or (len(term) >= _MIN_STEM_CHARS and stem.startswith(term))
                ),
                None,
            )
        return self._known[term]

    def _marked(self, line: str) -> Line:
        """A line in pieces."""
        pieces: Line = []
        end = 0
        for start, stop in self._places(line):
            pieces += [(line[end:start], False)] if start > end else []
            pieces.append((line[start:stop], True))
            end = stop
        return [*pieces, (line[end:], False)] if end < len(line) else pieces

    def _places(self, line: str) -> Iterator[tuple[int, int]]:
        """Where words of the question stand, in order and apart."""
        begun: tuple[int, int] | None = None
        for found in _WORD.finditer(line):
            start, word = found.start(), found[0]
            size = 2 if _is_spaceless(word) else len(word)
            for at in range(max(1, len(word) - size + 1)):
                term = self._asked_for(_folded(word[at : at + size]))
                if term is None or term not in self._weights:
                    continue
                if begun and start + at <= begun[1]:
                    begun = begun[0], start + at + size
                    continue
                if begun:
                    yield begun
                begun = start + at, min(start + at + size, found.end())
        if begun:
            yield begun


def _terms(word: str) -> Iterator[str]:
    """A word in the form in which words are compared; of scripts without spaces each two characters."""
    size = 2 if _is_spaceless(word) else len(word)
    for at in range(max(1, len(word) - size + 1)):
        yield _folded(word[at : at + size])


def _is_spaceless(word: str) -> bool:
    """Whether a run of letters may be many words: ideographs, kana and hangul, which fill two cells."""
    return not word.isascii() and any(unicodedata.east_asian_width(letter) in "WF" for letter in word)


def _folded(word: str) -> str:
    """A word in one case, without accents."""
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in parts if not unicodedata.combining(letter))
