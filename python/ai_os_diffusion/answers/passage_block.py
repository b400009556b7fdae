"""The part of a passage that a reader would be shown: a sentence, a list item, a row, a definition.

A passage keeps the line breaks and the indentation of its document, and of tables a row a line. That is
what is looked at here; no word of any language is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ai_os_diffusion.ingestion import splitting

__all__ = ["PassageBlock", "block_at", "blocks_of"]

# A bullet or a number, then a space.
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦–]|\(?(?:\d{1,3}|[A-Za-z])[.)])[ \t]+(?=\S)")
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*$|.*\S[ \t]+\|[ \t]+\S")
_WIDELY = 500
"""Characters of a paragraph that are shown where no sentence of it is known to answer."""
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


@dataclass(frozen=True, slots=True)
class PassageBlock:
    """A part of a passage, and for a row of a table the row that names its columns.

    Attributes:
        start: where it begins, in characters of the passage.
        end: where it ends.
        header: what stands above it and is shown with it, else "".
    """

    start: int
    end: int
    header: str = ""


def block_at(text: str, start: int, end: int, *, widely: bool = False) -> PassageBlock:
    """The smallest part of a passage that can be understood by itself and holds a span of it.

    Of a table it is the row; of a term with an indented description both, whichever holds the span; of a list
    the item; of prose the sentence, or those over which the span runs.

    Args:
        text: the passage.
        start: where the span begins, in characters.
        end: where it ends.
        widely: of prose take the paragraph, or of a long one the sentences that follow, and those before.
    """
    lines = _Lines(text)
    first, last = lines.at(start), lines.at(max(start, end - 1))
    if _ROW.match(lines[first]) and not _RULE.match(lines[first]):
        return PassageBlock(*lines.span(first, last), lines.header_above(first))
    definition = lines.definition(first, last)
    if definition is not None:
        return PassageBlock(*lines.span(*definition))
    item = lines.item(first, last)
    if item is not None:
        return PassageBlock(*lines.span(*item))
    begin, stop = lines.span(*lines.paragraph(first, last))
    found = [(begin + left, begin + right) for left, right in splitting.sentences(text[begin:stop])]
    held = [number for number, (left, right) in enumerate(found) if left < end and right > start]
    if not held:
        return PassageBlock(begin, stop)
    first, last = held[0], held[-1]
    while widely and last + 1 < len(found) and found[last + 1][1] - found[first][0] <= _WIDELY:
        last += 1
    while widely and first and found[last][1] - found[first - 1][0] <= _WIDELY:
        first -= 1
    return PassageBlock(found[first][0], _stripped(text, found[last][1]))


def blocks_of(text: str) -> Iterator[PassageBlock]:
    """All parts of a passage, in order, none inside another."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        block = block_at(text, at, at + 1)
        # What a part before it took is not told twice.
        yield PassageBlock(at, block.end, block.header)
        at = block.end


class _Lines:
    """The lines of a passage, by their structure."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> str:
        end = self._starts[index + 1] - 1 if index + 1 < len(self._starts) else len(self._text)
        return self._text[self._starts[index] : end]

    def at(self, place: int) -> int:
        """The line that holds a place."""
        low, high = 0, len(self._starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle] <= place else (low, middle)
        return low

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where lines begin and end, the white space around them left out."""
        end = self._starts[last] + len(self[last])
        inside = self._text[self._starts[first] : end]
        return self._starts[first] + len(inside) - len(inside.lstrip()), _stripped(self._text, end)

    def header_above(self, row: int) -> str:
        """The row above the rule of a table, for a row below it; "" where there is none."""
        for index in range(row - 1, 0, -1):
            if not _ROW.match(self[index]) and not _RULE.match(self[index]):
                return ""
            if _RULE.match(self[index]):
                return self[index - 1].strip() if _ROW.match(self[index - 1]) else ""
        return ""

    def definition(self, first: int, last: int) -> tuple[int, int] | None:
        """A line and the deeper ones directly below it, where they hold the lines; else None."""
        head, depth = first, self._depth(first)
        if not self._has_description(head):
            # The nearest line above that stands less deep.
            while head and (self._is_blank(head) or self._depth(head) >= depth):
                head -= 1
            if self._depth(head) >= depth or not self._has_description(head):
                return None
        end = self._description_end(head)
        return (head, max(end, last)) if first <= end else None

    def item(self, first: int, last: int) -> tuple[int, int] | None:
        """The item of a list that holds the lines; None where they are in none."""
        head = first
        while not _ITEM.match(self[head]):
            if not head or self._is_blank(head) or self._is_blank(head - 1):
                return None
            head -= 1
        end = head
        while end + 1 < len(self) and not self._is_blank(end + 1) and not _ITEM.match(self[end + 1]):
            end += 1
        return head, max(end, last)

    def paragraph(self, first: int, last: int) -> tuple[int, int]:
        """The lines without a blank one between them that hold the lines."""
        while first and not self._is_blank(first - 1):
            first -= 1
        while last + 1 < len(self) and not self._is_blank(last + 1):
            last += 1
        return first, last

    def _has_description(self, head: int) -> bool:
        below = head + 1
        return (
            below < len(self)
            and not self._is_blank(head)
            and not self._is_blank(below)
            and not _ITEM.match(self[head])
            and not _ITEM.match(self[below])
            and self._depth(below) > self._depth(head)
        )

    def _description_end(self, head: int) -> int:
        """The last line of what is deeper than a line and directly below it, blank lines inside included."""
        end = index = head
        while index + 1 < len(self) and (
            self._is_blank(index + 1) or self._depth(index + 1) > self._depth(head)
        ):
            index += 1
            if not self._is_blank(index):
                end = index
        return end

    def _is_blank(self, index: int) -> bool:
        return not self[index].strip()

    def _depth(self, index: int) -> int:
        line = self[index].expandtabs()
        return len(line) - len(line.lstrip())


def _stripped(text: str, end: int) -> int:
    """The end of what stands before a place, without the white space there."""
    return len(text[:end].rstrip())
