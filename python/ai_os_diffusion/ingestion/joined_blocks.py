"""Blocks of a section as one text, in which a passage is a span."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from ai_os_diffusion.ingestion.document import Block

__all__ = ["JoinedBlocks", "joined_block"]


def joined_block(blocks: Sequence[Block]) -> Block:
    """Blocks written one below the other as one block; its lines are theirs.

    Args:
        blocks: of one section.
    """
    ends = [block.end_line for block in blocks]
    last = blocks[-1]
    if last.is_aligned:
        # The blank lines below it are not written.
        ends[-1] = last.line + last.text.rstrip().count("\n")
    line = min([block.line for block in blocks])
    text = "".join(_written(blocks))
    return Block(text, line, max(ends), last.kind, last.headings, last.metadata)


def _written(blocks: Sequence[Block]) -> list[str]:
    """The texts of blocks and what stands between them, in turn."""
    # A blank line where the source has one, none between rows of a table.
    gaps = [
        "\n" if below.line - above.end_line < 2 or above.kind == below.kind == "row" else "\n\n"
        for above, below in pairwise(blocks)
    ]
    written = [""] * (2 * len(blocks) - 1)
    written[::2], written[1::2] = [block.text.rstrip() for block in blocks], gaps
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
        written = _written(blocks)
        places = [0, *accumulate(map(len, written))]
        self.text = "".join(written)
        self.starts, self.ends = places[:-1:2], places[1::2]
        # The place whose line was asked for last: in a long block the next one is near.
        self._index, self._at, self._line, self._is_aligned = -1, 0, 0, False

    def lines(self, start: int, end: int) -> tuple[int, int]:
        """First and last source line of a part of the text, which begins and ends within blocks."""
        first = bisect_right(self.starts, start) - 1
        last = max(first, bisect_left(self.starts, end) - 1)
        line = self._line_at(first, start, self.blocks[first].line)
        end_line = self._line_at(last, end, self.blocks[last].end_line)
        if first == last:
            return line, end_line
        # Text that a page shows elsewhere than it is written is not in the order of its lines.
        line = min([line, *(block.line for block in self.blocks[first + 1 : last + 1])])
        return line, max([end_line, *(block.end_line for block in self.blocks[first:last])])

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
