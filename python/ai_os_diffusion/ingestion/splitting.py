"""Where a text may be cut: between lines, sentences, words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["Span", "atoms", "lines", "sentences", "words"]

Span = tuple[int, int]
"""Begin and end of a piece within its text; between pieces lies white space only."""

Splitter = Callable[[str], Iterator[Span]]

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A sentence ends at its mark, possibly closed by a quote or bracket, when what follows does not
# go on in lower case ("e.g. this"); at an ideographic full stop; where a list item begins.
_SENTENCE_END = re.compile(
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’»)\]]))\s+(?=[^\sa-z])"
    r"|(?<=[。！？])\s*(?=\S)"
    r"|\n\s*\n\s*"
    r"|\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t])"
)
_LINE_END = re.compile(r"\n(?:[ \t]*\n)*")
_WORD = re.compile(r"\S+")
_ATOM = re.compile(rf"[{_IDEOGRAPH}]|(?:(?![{_IDEOGRAPH}])\w)+|[^\w\s]")


def sentences(text: str) -> Iterator[Span]:
    """Spans of the sentences of a text."""
    return _between(_SENTENCE_END, text)


def lines(text: str) -> Iterator[Span]:
    """Spans of the lines that are not blank."""
    return _between(_LINE_END, text)


def words(text: str) -> Iterator[Span]:
    """Spans of runs without white space."""
    return (match.span() for match in _WORD.finditer(text))


def atoms(text: str) -> Iterator[Span]:
    """Spans of the smallest pieces: words of one script, single ideographs, single marks."""
    return (match.span() for match in _ATOM.finditer(text))


def _between(boundary: re.Pattern[str], text: str) -> Iterator[Span]:
    start = 0
    for match in boundary.finditer(text):
        if text[start : match.start()].strip():
            yield start, match.start()
            start = match.end()
    if text[start:].strip():
        yield start, len(text)
