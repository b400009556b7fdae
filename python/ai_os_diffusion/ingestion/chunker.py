"""Blocks to passages of a bounded number of tokens, cut along the structure of the document."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, compress, groupby, islice, pairwise, repeat
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np

from ai_os_diffusion.contracts import Chunk, TokenCounter
from ai_os_diffusion.ingestion import splitting
from ai_os_diffusion.ingestion.document import Block, Document
from ai_os_diffusion.ingestion.joined_blocks import JoinedBlocks, Section, joined_block, together

__all__ = ["Chunker", "context_line", "embedding_text", "passage_text", "stored_text"]

_MAX_CONTEXT_CHARS = 160
_SEPARATOR = " > "
# Longer ones are not words, and a passage of them would be long in characters however few its tokens are: a
# vocabulary may call any run that it does not know one token.
_MAX_CHARS_PER_TOKEN = 16
# Runs of short lines, words or atoms that fill a passage: how finely what is no sentence is cut.
_RUNS_PER_PASSAGE = 8
# Shorter sections, of the tokens of a passage, come together with the one beside them.
_SHORT = 1 / 4
# Pieces that are in memory together.
_WINDOW = 4096


def context_line(headings: Sequence[str]) -> str:
    """The titles above a passage in one line, "Title > Section", the outer ones dropped when too long.

    A title whose words the one below it repeats is not written.
    """
    line = ""
    for heading in _said_once(headings):
        longer = heading + _SEPARATOR + line if line else heading[:_MAX_CONTEXT_CHARS]
        if len(longer) > _MAX_CONTEXT_CHARS:
            break
        line = longer
    return line


def embedding_text(chunk: Chunk) -> str:
    """What is embedded for a chunk: its context line, then its text."""
    return _below(context_line(chunk.headings), chunk.text)


def stored_text(chunk: Chunk) -> str:
    """What is stored of a chunk, and found by its words: its outermost and innermost title, then its text.

    The titles between stand above many passages, and their words would bring all of these to the front.
    """
    return _below(_title_line(chunk.headings), chunk.text)


def passage_text(content: str, headings: object) -> str:
    """The text of a chunk, of what `stored_text` made of it.

    Args:
        content: of a memory.
        headings: what its metadata has under this name; what people wrote there may be anything.
    """
    if not isinstance(headings, (list, tuple)) or not all(isinstance(title, str) for title in headings):
        return content
    return content.removeprefix(f"{_title_line(headings)}\n") if headings else content


def _said_once(headings: Sequence[str]) -> Iterator[str]:
    """Titles from the innermost on, without those whose words stand in the one below."""
    below: set[str] = set()
    for heading in reversed(headings):
        words = set(heading.casefold().split())
        if not words <= below:
            yield heading
        below = words


def _title_line(headings: Sequence[str]) -> str:
    return context_line((headings[0], headings[-1]) if headings else ())


def _below(line: str, text: str) -> str:
    return f"{line}\n{text}" if line else text


_Unit = tuple[int, int, int]
"""Begin and end of a piece that is not cut further, within the text of its section, and its tokens."""

_Group = tuple[int, int]
"""The first unit of a passage, and the one behind its last."""

_Item = TypeVar("_Item")

_headings = attrgetter("headings")
_section = attrgetter("headings", "metadata")
_columns = attrgetter("columns")
_table = attrgetter("headings", "columns")


class _Whole(NamedTuple):
    """A section that is one passage, unless its blocks have more tokens together than one by one."""

    block: Block
    pieces: Sequence[Block]
    sizes: Sequence[int]
    budget: int


class _Packed(NamedTuple):
    """Spans of pieces of a section, and groups of them: passages unless they have more tokens together."""

    joined: JoinedBlocks
    starts: Sequence[int]
    ends: Sequence[int]
    groups: Sequence[_Group]
    budget: int


_Draft = Block | _Whole | _Packed
"""A block that is a passage, or what is yet to be counted."""


class Chunker:
    """Cuts documents into passages.

    A section that is shorter than a quarter of a passage comes together with the one beside it, where one is
    within the other or both are within the same, and their titles are part of the text then; no other passage
    crosses a title. One that begins within a table has the table's header as its last title.
    Within a section whole blocks are packed together; a block that is
    too long by itself is cut between sentences (prose) or lines (code), then words, and inside a run
    without white space between words, marks and ideographs, but never inside a word: a single word
    beyond the limit stays whole, and the encoder reads its beginning. What is longer than any word is cut
    anywhere. The cost is linear in the text, whatever stands in it.
    Sections are cut into passages of about equal length rather than full ones and a rest.
    """

    def __init__(self, counter: TokenCounter, *, max_tokens: int = 200, overlap: int = 0) -> None:
        """Set the limits.

        Args:
            counter: counts tokens as the encoder will.
            max_tokens: most tokens of a passage, its context line counted; the text gets at least half.
            overlap: most tokens at the end of a passage that the next one of the section repeats.

        Raises:
            ValueError: the limits contradict each other.
        """
        if max_tokens < 2 or not 0 <= overlap <= max_tokens // 2:
            raise ValueError(
                f"expected max_tokens >= 2 and 0 <= overlap <= max_tokens / 2, got {max_tokens} and {overlap}"
            )
        self._count = counter
        self._max_tokens = max_tokens
        self._overlap = overlap

    def chunk(self, document: Document) -> list[Chunk]:
        """Cut a document; the passages come in reading order.

        Args:
            document: what a reader returned.
        """
        chunks: list[Chunk] = []
        # What is not counted yet: many short sections share a call.
        drafts: list[_Draft] = []
        waiting = 0
        for draft in self._drafts(document.blocks):
            drafts.append(draft)
            waiting += 1 if isinstance(draft, Block) else len(draft[1])
            if waiting >= _WINDOW:
                chunks += self._passages(drafts, document.source)
                drafts, waiting = [], 0
        chunks += self._passages(drafts, document.source)
        return chunks

    def _drafts(self, blocks: Sequence[Block]) -> Iterator[_Draft]:
        short = self._max_tokens * _SHORT
        for section in together(self._sections(blocks), self._title_sizes(blocks), short):
            pieces, sizes, budget = section
            if len(pieces) == 1 and sizes[0] <= budget:
                yield pieces[0]
            elif sizes[-1] and sum(sizes) <= budget:
                yield _Whole(joined_block(pieces), *section)
            else:
                yield from self._packed(*section)

    def _sections(self, blocks: Sequence[Block]) -> Iterator[Section]:
        sizes = self._sizes([block.text for block in blocks])
        budgets = self._budgets(blocks)
        begin = 0
        for (headings, _), group in groupby(blocks, key=_section):
            section = list(group)
            end = begin + len(section)
            budget = min(budgets[headings, columns] for columns in {"", *map(_columns, section)})
            yield Section(section, sizes[begin:end], budget)
            begin = end

    def _title_sizes(self, blocks: Sequence[Block]) -> Mapping[str, int]:
        """Tokens of each title."""
        titles = list(dict.fromkeys(chain.from_iterable(dict.fromkeys(map(_headings, blocks)))))
        return dict(zip(titles, self._sizes(titles), strict=True)) if titles else {}

    def _budgets(self, blocks: Sequence[Block]) -> Mapping[tuple[tuple[str, ...], str], int]:
        """Tokens that a passage may have below each path of titles, and header of a table."""
        plain = zip(map(_headings, blocks), repeat(""), strict=False)
        paths = list(dict.fromkeys([*plain, *map(_table, filter(_columns, blocks))]))
        contexts = [context_line((*titles, columns) if columns else titles) for titles, columns in paths]
        counted = iter(self._count(list(filter(None, contexts)))) if any(contexts) else iter(())
        used = (int(next(counted)) if context else 0 for context in contexts)
        return {
            path: max(self._max_tokens - tokens, self._max_tokens // 2)
            for path, tokens in zip(paths, used, strict=True)
        }

    def _packed(self, blocks: Sequence[Block], sizes: Sequence[int], budget: int) -> Iterator[_Packed]:
        for first in range(0, len(blocks), _WINDOW):
            joined, counted = JoinedBlocks(blocks[first : first + _WINDOW]), sizes[first : first + _WINDOW]
            columns: Iterable[tuple[Sequence[int], ...]] = [(joined.starts, joined.ends, counted)]
            if max(counted) > budget:
                units = self._pieces(joined, counted, budget)
                columns = (tuple(zip(*window, strict=True)) for window in _windows(units))
            for starts, ends, tokens in columns:
                yield _Packed(joined, starts, ends, list(self._pack(tokens, budget)), budget)

    def _passages(self, drafts: Sequence[_Draft], source: str) -> Iterator[Chunk]:
        texts: list[str] = []
        for draft in drafts:
            if isinstance(draft, Block):
                continue
            if isinstance(draft, _Whole):
                texts.append(draft.block.text)
            else:
                text = draft.joined.text
                spans = _joined_spans(draft.starts, draft.ends, draft.groups)
                texts += [text[start:stop] for start, stop in spans]
        sizes = iter(self._sizes(texts))
        for draft in drafts:
            if isinstance(draft, Block):
                yield _as_chunk(draft, source)
            elif isinstance(draft, _Whole):
                block, blocks, counted, budget = draft
                if next(sizes) <= budget:
                    yield _as_chunk(block, source)
                else:
                    yield from self._passages(list(self._packed(blocks, counted, budget)), source)
            else:
                joined = draft.joined
                headings, metadata = joined.blocks[0].headings, joined.blocks[0].metadata
                for start, end in self._fit(draft, draft.groups, sizes):
                    lines = joined.lines(start, end)
                    columns = joined.columns(start)
                    titles = (*headings, columns) if columns else headings
                    yield Chunk(joined.text[start:end], source, *lines, titles, metadata)

    def _pieces(self, joined: JoinedBlocks, sizes: Sequence[int], budget: int) -> Iterator[_Unit]:
        """The blocks that fit, and the pieces of those that do not."""
        # A long text has too many short lines, words or atoms to be looked at one by one.
        most = max(1, budget // _RUNS_PER_PASSAGE)
        units = zip(joined.blocks, joined.starts, joined.ends, sizes, strict=True)
        for block, start, end, tokens in units:
            if tokens <= budget:
                yield start, end, tokens
                continue
            first = partial(splitting.sentences if block.kind == "prose" else splitting.line_runs, most=most)
            word_runs = partial(splitting.word_runs, most=most)
            atom_runs = partial(splitting.atom_runs, most=most)
            splitters = (first, word_runs, splitting.words, atom_runs, splitting.atoms)
            yield from self._split(joined.text, start, end, splitters, budget)

    def _split(
        self, text: str, start: int, end: int, splitters: Sequence[splitting.Splitter], budget: int
    ) -> Iterator[_Unit]:
        """Pieces of a span by the first splitter; those that do not fit are split on by the next."""
        split = splitters[0] if splitters else partial(_slices, chars=budget)
        inside, before = text[start:end], 0
        for window in _windows(split(inside)):
            # White space counts with the piece behind it; before the first it is the indentation of a line.
            begins, ends = [begin for begin, _ in window], [stop for _, stop in window]
            begins[0] = begins[0] if before else 0
            sizes = self._sizes([inside[above:stop] for above, stop in pairwise([before, *ends])])
            before = ends[-1]
            units = zip(map(start.__add__, begins), map(start.__add__, ends), sizes, strict=True)
            if max(sizes) <= budget:
                yield from units
                continue
            for unit in units:
                first, last, tokens = unit
                if tokens <= budget or not (splitters[1:] or last - first > _MAX_CHARS_PER_TOKEN * budget):
                    yield unit
                else:
                    yield from self._split(text, first, last, splitters[1:], budget)

    def _sizes(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, or as many as a text of its length has at least; long ones are not counted."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        sizes = -(-lengths // _MAX_CHARS_PER_TOKEN)
        is_short = sizes <= self._max_tokens
        short = texts if is_short.all() else list(compress(texts, is_short))
        if short:
            sizes[is_short] = np.maximum(sizes[is_short], np.asarray(self._count(short)))
        counted: list[int] = sizes.tolist()
        return counted

    def _pack(self, tokens: Sequence[int], budget: int) -> Iterator[_Group]:
        """Groups of about equal length, each of as many units as fit."""
        sums = [0, *accumulate(tokens)]
        start, count = 0, len(tokens)
        if tokens[-1] and sums[-1] <= budget:
            yield start, count
            return
        target = -(-sums[-1] // max(1, -(-sums[-1] // budget)))
        while start < count:
            fitting = bisect_right(sums, sums[start] + budget) - 1
            reached = bisect_left(sums, sums[start] + target)
            end = max(start + 1, min(fitting, reached, count))
            yield start, end
            if end == count:
                return
            start = self._resume(tokens, start, end)

    def _resume(self, tokens: Sequence[int], start: int, end: int) -> int:
        """Where the next passage begins: at `end`, or earlier by the overlap, always after `start`."""
        repeated = 0
        while end - 1 > start and repeated + tokens[end - 1] <= self._overlap:
            end -= 1
            repeated += tokens[end]
        return end

    def _fit(
        self, packed: _Packed, groups: Sequence[_Group], sizes: Iterator[int]
    ) -> Iterator[splitting.Span]:
        """Halve what has more tokens joined than its pieces had: joining may change a tokenisation."""
        joined, starts, ends, _, budget = packed
        for first, end in groups:
            if end - first == 1 or next(sizes) <= budget:
                yield starts[first], ends[end - 1]
            else:
                middle = first + (end - first) // 2
                halves = (first, middle), (middle, end)
                again = [joined.text[start:stop] for start, stop in _joined_spans(starts, ends, halves)]
                yield from self._fit(packed, halves, iter(self._sizes(again)))


def _as_chunk(block: Block, source: str) -> Chunk:
    text, line, end_line, _, headings, metadata, columns = block
    headings = (*headings, columns) if columns else headings
    return Chunk(text.rstrip(), source, line, end_line, headings, metadata)


def _joined_spans(
    starts: Sequence[int], ends: Sequence[int], groups: Iterable[_Group]
) -> Iterator[splitting.Span]:
    """Spans of the groups that have several units."""
    return ((starts[first], ends[end - 1]) for first, end in groups if end - first > 1)


def _windows(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Items in lists of a bounded length."""
    iterator = iter(items)
    while window := list(islice(iterator, _WINDOW)):
        yield window


def _slices(text: str, chars: int) -> Iterator[splitting.Span]:
    """Spans of a fixed length."""
    return ((at, min(at + chars, len(text))) for at in range(0, len(text), chars))
