"""Blocks of a section as one text, in which a passage is a span."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ai_os_diffusion.ingestion.document import Block, BlockKind

__all__ = ["JoinedBlocks", "joined_block"]


def joined_block(blocks: Sequence[Block]) -> Block:
    """Blocks written one below the other as one block; its lines are theirs.

    Args:
        blocks: of one section.
    """
    texts, lines, end_lines, kinds, *_ = zip(*blocks, strict=True)
    last = blocks[-1]
    text = "".join(_written(texts, lines, end_lines, kinds))
    end_line = last.end_line
    if last.is_aligned:
        # The blank lines below it are not written.
        end_line = last.line + last.text.rstrip().count("\n")
    end_line = max([*end_lines[:-1], end_line])
    columns = blocks[0].columns
    return Block(text, min(lines), end_line, last.kind, last.headings, last.metadata, columns)


def _written(
    texts: Sequence[str], lines: Sequence[int], end_lines: Sequence[int], kinds: Sequence[BlockKind]
) -> list[str]:
    """The texts of blocks and what stands between them, in turn."""
    # A blank line where the source has one, none between rows of a table.
    gaps = [
        "\n" if line - above < 2 or kind == kind_above == "row" else "\n\n"
        for above, line, kind_above, kind in zip(end_lines, lines[1:], kinds, kinds[1:], strict=False)
    ]
    written = [""] * (2 * len(texts) - 1)
    written[::2], written[1::2] = map(str.rstrip, texts), gaps
    return written


class JoinedBlocks:
    """Blocks written one below the other, with the source lines of every place.

    Attributes:
        blocks: as they were given.
        text: all of them, with the blank lines between them that the source has.
        starts: where each block begins in `text`.
        ends: where each block ends in it.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Join blocks, at least one."""
        self.blocks = blocks
        # Columns: a section of tiny blocks has thousands, and a passage asks for the lines of all it holds.
        texts, self._lines, self._end_lines, kinds, *_ = zip(*blocks, strict=True)
        written = _written(texts, self._lines, self._end_lines, kinds)
        places = [0, *accumulate(map(len, written))]
        self.text = "".join(written)
        self.starts, self.ends = places[:-1:2], places[1::2]
        # The place whose line was asked for last: in a long block the next one is near.
        self._index, self._at, self._line, self._is_aligned = -1, 0, 0, False

    def columns(self, start: int) -> str:
        """The header of the table whose row stands at a place, unless the place is before the header."""
        return self.blocks[bisect_right(self.starts, start) - 1].columns

    def lines(self, start: int, end: int) -> tuple[int, int]:
        """First and last source line of a part of the text, which begins and ends within blocks."""
        first = bisect_right(self.starts, start) - 1
        last = max(first, bisect_left(self.starts, end) - 1)
        line = self._line_at(first, start, self._lines[first])
        end_line = self._line_at(last, end, self._end_lines[last])
        if first == last:
            return line, end_line
        # Text that a page shows elsewhere than it is written is not in the order of its lines.
        lines, end_lines = self._lines[first + 1 : last + 1], self._end_lines[first:last]
        return min(line, *lines), max(end_line, *end_lines)

    def _line_at(self, index: int, at: int, otherwise: int) -> int:
        """The line of a place in a block, or another one if the block's lines are not those of the source."""
        if index != self._index:
            block = self.blocks[index]
            self._index, self._at, self._line = index, self.starts[index], block.line
            self._is_aligned = block.is_aligned
        if not self._is_aligned:
            return otherwise
        if at >= self._at:
            self._line += self.text.count("\n", self._at, at)
        else:
            self._line -= self.text.count("\n", at, self._at)
        self._at = at
        return self._line
