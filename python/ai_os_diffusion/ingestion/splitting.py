"""Where a text may be cut: between lines, sentences, words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from operator import methodcaller

__all__ = ["Span", "atom_runs", "atoms", "line_runs", "sentences", "word_runs", "words"]

Span = tuple[int, int]
"""Begin and end of a piece within its text; between pieces lies white space only."""

Splitter = Callable[[str], Iterator[Span]]

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A line that only ends where the text was wrapped: behind it is neither a blank line nor an item of a list.
_WRAPPED = re.compile(r"\n(?![ \t]*\n|[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t])")
# Half a character, which JSON can hold and no encoding has.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Full stops that end no sentence: of a title, an initial, "z. B."; in "No. 5"; of the day in "15. Mai".
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|Hr|Fr|Dipl|Ing|Inc|vs|ca|bzw|evtl|inkl|[A-Za-z])\.$")
_BEFORE_NUMBER = re.compile(r"\b(?:No|Nr|Art|Abs|Abb|Fig|Tel|pp)\.$")
_DAY = re.compile(r"\b\d{1,2}\.$")
_MONTH = re.compile(r"Jan|Feb|März|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez")
_WORD = re.compile(r"\S+")
_span = methodcaller("span")
# Sentences of a text that are told apart. Beyond them, short ones that follow each other come together.
_MAX_SENTENCES = 256
_ATOM = re.compile(rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+|[^\w\s]")


def sentences(text: str, most: int = 0) -> Iterator[Span]:
    """Spans of the sentences of a text; of very many, short ones come together up to so many characters."""
    from ai_os_diffusion import _native

    start, end, found = 0, 0, 0
    unwrapped = _WRAPPED.sub(" ", text)
    try:
        spans = _native.sentences(unwrapped)
    except UnicodeEncodeError:
        spans = _native.sentences(_SURROGATE.sub("\ufffd", unwrapped))
    for begin, stop in spans:
        is_new = begin - start >= most if found > _MAX_SENTENCES else _ends_sentence(text, end, begin)
        if end and is_new:
            yield start, end
            found += 1
        if is_new or not end:
            start = begin
        end = stop
    if end:
        yield start, end


def line_runs(text: str, most: int) -> Iterator[Span]:
    """Spans of single lines, or of as many short ones that follow each other as have so many characters."""
    runs = re.compile(rf"^(?:(?=.*\S)[\s\S]{{1,{most}}}(?<=\S)$|.*\S.*)", re.MULTILINE)
    return map(_span, runs.finditer(text))


def words(text: str) -> Iterator[Span]:
    """Spans of runs without white space."""
    return map(_span, _WORD.finditer(text))


def word_runs(text: str, most: int) -> Iterator[Span]:
    """Spans of as many words, the last of fewer."""
    runs = re.compile(rf"\S+(?:\s+\S+){{0,{most - 1}}}")
    return map(_span, runs.finditer(text))


def atoms(text: str) -> Iterator[Span]:
    """Spans of the smallest pieces: words of one script, single ideographs, single marks."""
    return map(_span, _ATOM.finditer(text))


def atom_runs(text: str, most: int) -> Iterator[Span]:
    """Spans of as many atoms that stand together, the last of fewer."""
    runs = re.compile(f"(?:{_ATOM.pattern}){{1,{most}}}")
    return map(_span, runs.finditer(text))


def _ends_sentence(text: str, before: int, after: int) -> bool:
    """Whether the space from `before` to `after`, behind a full stop, parts sentences: no abbreviation's."""
    if text.count("\n", before, after) > 1 or not text[after].isalnum():
        return True
    last = text[max(0, before - 8) : before]
    return not (
        _ABBREVIATION.search(last)
        or (_BEFORE_NUMBER.search(last) and text[after].isdigit())
        or (_DAY.search(last) and _MONTH.match(text, after))
    )
