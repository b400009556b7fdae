"""Lines of a terminal's width: text breaks between words, in cells and not in characters."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from typing import IO

__all__ = ["LineWrapper", "cells_of", "is_styled", "width_of"]

# Words, runs of spaces, and single line breaks.
_PIECE = re.compile(r"\n| +|[^\n ]+")
_TAB_CELLS = 4
# Of a line, however deep its further ones are to stand.
_MIN_TEXT_CELLS = 10
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_JOINER = "\u200d"
# What closes or opens stays with what it is of.
_CLOSES = frozenset(("Pe", "Pf", "Po"))
_OPENS = frozenset(("Ps", "Pi"))

_Unit = list[tuple[str, bool]]
"""A text between whose pieces no line ends; each stands out, or does not."""


def width_of(stream: IO[str]) -> int | None:
    """Cells of a line: what COLUMNS says, else the terminal; None where lines are of any length.

    In a pipe nobody knows how wide they are looked at, and programs want each of them whole.

    Args:
        stream: where they are written.
    """
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said[:6]) > 0:
        return int(said[:6])
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):
        return None


def is_styled(stream: IO[str]) -> bool:
    """Whether words may stand out: on a terminal that knows how, unless NO_COLOR asks for none of it."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class LineWrapper:
    """Breaks text that comes in pieces into lines.

    A word is held back until it is known to end, since it may have to stand on the next line. One that no
    line holds is broken. Scripts that write without spaces break between their characters. What stands out
    does so on each line by itself.

    Attributes:
        width: cells of a line, which may change between lines.
    """

    def __init__(self, width: int, *, styled: bool = False) -> None:
        """Begin at the left.

        Args:
            width: cells of a line.
            styled: mark what stands out as bold.
        """
        self.width = width
        self._styled = styled
        self._indent = ""
        self._column = 0
        self._spaces = ""
        self._word: _Unit = []

    def feed(self, text: str, indent: str = "", *, strong: bool = False) -> str:
        """What to write of the next piece.

        Args:
            text: visible, but for line breaks and tabs.
            indent: spaces before the further lines of a line that is broken.
            strong: whether it stands out.
        """
        self._indent = indent[: self._most_indent]
        written: list[str] = []
        for piece in _PIECE.findall(text.replace("\t", " " * _TAB_CELLS)):
            if piece == "\n":
                written += [*self._end_word(), "\n"]
                self._column, self._spaces = 0, ""
            elif piece[0] == " ":
                written += self._end_word()
                self._spaces += piece
            else:
                # In one piece: it may go on with a mark on its last character.
                before = self._word.pop()[0] if self._word and self._word[-1][1] == strong else ""
                self._word.append((before + piece, strong))
        if self._word and not self._word[-1][0].isascii():
            # A text without spaces is one word; all of it but the last character has its place.
            *known, self._word = _units(self._word)
            for unit in known:
                written += self._place(unit)
        return "".join(written)

    def finish(self) -> str:
        """What is held back."""
        written = "".join(self._end_word()) + self._spaces
        self._column, self._spaces = self._column + len(self._spaces), ""
        return written

    def note(self, text: str) -> None:
        """Take into account what was written beside it, when nothing was held back."""
        *above, line = text.split("\n")
        self._column = cells_of(line) + (0 if above else self._column)

    @property
    def is_at_start(self) -> bool:
        """Whether the next piece begins a line."""
        return not (self._column or self._word or self._spaces)

    @property
    def _most_indent(self) -> int:
        return max(self.width - _MIN_TEXT_CELLS, 0)

    def _end_word(self) -> Iterator[str]:
        word, self._word = self._word, []
        for unit in _units(word):
            yield from self._place(unit)

    def _place(self, unit: _Unit) -> Iterator[str]:
        """A unit on this line or the next; one that no line holds is broken."""
        cells = sum(cells_of(text) for text, _ in unit)
        if not self._column:
            # How deep the line stands.
            self._spaces = self._spaces[: self._most_indent]
        elif self._column + len(self._spaces) + cells > self.width and (
            len(self._indent) + cells <= self.width or self._column + len(self._spaces) >= self.width
        ):
            yield self._next_line()
        yield self._spaces
        self._column, self._spaces = self._column + len(self._spaces), ""
        if self._column + cells <= self.width:
            yield from (self._shown(*run) for run in unit)
            self._column += cells
            return
        for text, strong in unit:
            held = ""
            for cluster in _clusters(text):
                cells = cells_of(cluster)
                if self._column + cells > self.width and self._column > len(self._indent):
                    yield self._shown(held, strong) + self._next_line() + self._spaces
                    held, self._column, self._spaces = "", len(self._spaces), ""
                held += cluster
                self._column += cells
            yield self._shown(held, strong)

    def _next_line(self) -> str:
        self._column, self._spaces = 0, self._indent
        return "\n"

    def _shown(self, text: str, strong: bool) -> str:
        return f"{_BOLD}{text}{_PLAIN}" if strong and text and self._styled else text


def _units(word: _Unit) -> list[_Unit]:
    """A word in pieces between which a line may end: beside characters of two cells, which need no space."""
    units: list[_Unit] = [[]]
    before = ""
    for text, strong in word:
        for piece in [text] if text.isascii() else _clusters(text):
            if before and _may_part(before, piece):
                units.append([])
            units[-1].append((piece, strong))
            before = piece
    return units if word else []


def _may_part(before: str, after: str) -> bool:
    if before.isascii() and after.isascii():
        return False
    is_wide = cells_of(before[-1]) > 1 or cells_of(after[0]) > 1
    category = unicodedata.category
    return is_wide and category(before[-1]) not in _OPENS and category(after[0]) not in _CLOSES


def _clusters(text: str) -> Iterator[str]:
    """Characters with the marks on them, and what joiners join."""
    held = ""
    for character in text:
        if (
            held
            and held[-1] != _JOINER
            and character != _JOINER
            and unicodedata.category(character)[0] != "M"
        ):
            yield held
            held = ""
        held += character
    if held:
        yield held


def cells_of(text: str) -> int:
    """How many cells a terminal gives to a text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
