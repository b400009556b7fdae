"""Short sections together, and blocks of a section as one text, in which a passage is a span."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, takewhile
from typing import NamedTuple

from ai_os_diffusion.ingestion.document import Block, BlockKind, Heading

__all__ = ["JoinedBlocks", "Section", "joined_block", "together"]

# Line feeds between blocks: blank lines are those of the source, so that lines of a passage are known.
_MOST_FEEDS = 3


class Section(NamedTuple):
    """Blocks below the same titles, or those of short sections together.

    Attributes:
        blocks: in reading order, at least one.
        sizes: tokens of each.
        budget: most tokens of a passage of it.
    """

    blocks: Sequence[Block]
    sizes: Sequence[int]
    budget: int


def together(sections: Iterable[Section], title_sizes: Mapping[str, int], short: float) -> Iterator[Section]:
    """Sections, a short one together with the one beside it where both are one passage then.

    Their titles stand in the text then, but for those that both have.

    Args:
        sections: in reading order.
        title_sizes: tokens of each title.
        short: tokens from which a section stands by itself.
    """
    run: list[Section] = []
    total = 0
    for section in sections:
        titles = section.blocks[0].headings
        tokens = sum(section.sizes) + (title_sizes[titles[-1]] if titles else 0)
        fits = min(total, tokens) < short and total + tokens <= section.budget
        if run and fits and _are_near(run[-1].blocks, section.blocks):
            run.append(section)
            total += tokens
            continue
        if run:
            yield _joined(run, title_sizes)
        run, total = [section], tokens
    if run:
        yield _joined(run, title_sizes)


def _joined(run: Sequence[Section], title_sizes: Mapping[str, int]) -> Section:
    """Sections as one."""
    if len(run) == 1:
        return run[0]
    groups = _with_titles([block for section in run for block in section.blocks])
    counted = chain.from_iterable(section.sizes for section in run)
    sizes = [
        size
        for (*titles, _), own in zip(groups, counted, strict=True)
        for size in (*(title_sizes[title.text] for title in titles), own)
    ]
    return Section(list(chain.from_iterable(groups)), sizes, min(section.budget for section in run))


def _are_near(first: Sequence[Block], second: Sequence[Block]) -> bool:
    """Whether sections are within the same one, or one within the other, and their titles on known lines."""
    above, below = first[-1], second[0]
    shared = _shared(above.headings, below.headings)
    own, others = above.headings[shared:], below.headings[shared:]
    return (
        max(len(own), len(others)) < 2
        and above.metadata == below.metadata
        and not any(block.columns for block in (*first, *second))
        and all(isinstance(title, Heading) and title.line <= above.line for title in own)
        and all(isinstance(title, Heading) and above.end_line <= title.line <= below.line for title in others)
    )


def _with_titles(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks of sections that are near, each below those of its titles that all do not share.

    A title that the block above or below it says is not written again.
    """
    paths = [block.headings for block in blocks]
    shared = paths[0][: _shared(min(paths), max(paths))]
    written: list[list[Block]] = []
    path, above = shared, ""
    for block in blocks:
        own = block.headings[_shared(path, block.headings) :]
        titles = [
            block._replace(text=title, line=title.line, end_line=title.line, headings=shared)
            for title in own
            if isinstance(title, Heading) and title not in block.text and title not in above
        ]
        written.append([*titles, block._replace(headings=shared)])
        path, above = block.headings, block.text
    return written


def _shared(path: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Titles that two paths begin with."""
    same = (one == two for one, two in zip(path, other, strict=False))
    return sum(takewhile(bool, same))


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
    # Blank lines where the source has them, none between rows of a table.
    gaps = [
        "\n" if line - above < 2 or kind == kind_above == "row" else "\n" * min(line - above, _MOST_FEEDS)
        for above, line, kind_above, kind in zip(end_lines, lines[1:], kinds, kinds[1:], strict=False)
    ]
    written = [""] * (2 * len(texts) - 1)
    written[::2], written[1::2] = map(str.rstrip, texts), gaps
    return written


class JoinedBlocks:
    """Blocks written one below the other, with the source lines of every place.

    Attributes:
        blocks: as they were given.
        text: all of them, with the blank lines between them that the source has, at most two.
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
