"""Blocks to passages of a bounded number of tokens, cut along the structure of the document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice

from ai_os_diffusion.contracts import Chunk, TokenCounter
from ai_os_diffusion.ingestion import splitting
from ai_os_diffusion.ingestion.document import Block, Document

__all__ = ["Chunker", "context_line", "embedding_text"]

_MAX_CONTEXT_CHARS = 160
_SEPARATOR = " > "
# Longer ones are not words, and a passage of them would be long in characters however few its tokens are: a
# vocabulary may call any run that it does not know one token.
_MAX_CHARS_PER_TOKEN = 16
# Pieces that are in memory together.
_WINDOW = 4096


def context_line(headings: Sequence[str]) -> str:
    """The titles above a passage in one line, "Title > Section", the outer ones dropped when too long."""
    line = ""
    for heading in reversed(headings):
        longer = heading + _SEPARATOR + line if line else heading[:_MAX_CONTEXT_CHARS]
        if len(longer) > _MAX_CONTEXT_CHARS:
            break
        line = longer
    return line


def embedding_text(chunk: Chunk) -> str:
    """What is embedded for a chunk: its context line, then its text."""
    context = context_line(chunk.headings)
    return f"{context}\n{chunk.text}" if context else chunk.text


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece that is not cut further, with the white space that stood before it."""

    text: str
    line: int
    end_line: int
    glue: str
    tokens: int = 0


class Chunker:
    """Cuts documents into passages.

    Passages never cross a heading. Within a section whole blocks are packed together; a block that is
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
        blocks = document.blocks
        counted = zip(blocks, self._sizes([block.text for block in blocks]), strict=True)
        chunks: list[Chunk] = []
        for (headings, metadata), section in groupby(
            counted, key=lambda pair: (pair[0].headings, pair[0].metadata)
        ):
            budget = self._budget(headings)
            for units in _windows(self._units(section, budget)):
                for group in self._fit(list(self._pack(units, budget)), budget):
                    text = group[0].text + "".join(unit.glue + unit.text for unit in group[1:])
                    span = min(unit.line for unit in group), max(unit.end_line for unit in group)
                    chunks.append(Chunk(text, document.source, *span, headings, metadata))
        return chunks

    def _budget(self, headings: tuple[str, ...]) -> int:
        context = context_line(headings)
        used = self._count([context])[0] if context else 0
        return max(self._max_tokens - int(used), self._max_tokens // 2)

    def _units(self, section: Iterable[tuple[Block, int]], budget: int) -> Iterator[_Unit]:
        previous: Block | None = None
        for block, tokens in section:
            glue = _gap(previous, block) if previous else ""
            previous = block
            whole = _Unit(block.text, block.line, block.end_line, glue, tokens)
            first = splitting.sentences if block.kind == "prose" else splitting.lines
            # An atom is one token or more; a long run has too many to be looked at one by one.
            runs = partial(splitting.atom_runs, most=budget)
            yield from self._split(whole, (first, splitting.words, runs, splitting.atoms), budget)

    def _split(self, unit: _Unit, splitters: Sequence[splitting.Splitter], budget: int) -> Iterator[_Unit]:
        """The unit itself when it fits, else its pieces by the first splitter, each split on by the next."""
        if unit.tokens <= budget or not (splitters or len(unit.text) > _MAX_CHARS_PER_TOKEN * budget):
            yield unit
            return
        split = splitters[0] if splitters else partial(_slices, chars=budget)
        for pieces in _windows(_pieces(unit, split)):
            sizes = self._sizes([piece.glue + piece.text for piece in pieces])
            for piece, tokens in zip(pieces, sizes, strict=True):
                yield from self._split(replace(piece, tokens=tokens), splitters[1:], budget)

    def _sizes(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, or as many as a text of its length has at least; long ones are not counted."""
        least = [-(-len(text) // _MAX_CHARS_PER_TOKEN) for text in texts]
        short = [text for text, size in zip(texts, least, strict=True) if size <= self._max_tokens]
        counts = iter(self._count(short)) if short else iter(())
        return [size if size > self._max_tokens else max(size, int(next(counts))) for size in least]

    def _pack(self, units: list[_Unit], budget: int) -> Iterator[list[_Unit]]:
        total = sum(unit.tokens for unit in units)
        target = -(-total // max(1, -(-total // budget)))
        start = 0
        while start < len(units):
            end, tokens = start, 0
            while end < len(units) and (end == start or tokens + units[end].tokens <= budget):
                if tokens >= target:
                    break
                tokens += units[end].tokens
                end += 1
            yield units[start:end]
            if end == len(units):
                return
            start = self._resume(units, start, end)

    def _resume(self, units: list[_Unit], start: int, end: int) -> int:
        """Where the next passage begins: at `end`, or earlier by the overlap, always after `start`."""
        repeated = 0
        while end - 1 > start and repeated + units[end - 1].tokens <= self._overlap:
            end -= 1
            repeated += units[end].tokens
        return end

    def _fit(self, groups: list[list[_Unit]], budget: int) -> Iterator[list[_Unit]]:
        """Halve what has more tokens joined than its pieces had: joining may change a tokenisation."""
        texts = [group[0].text + "".join(unit.glue + unit.text for unit in group[1:]) for group in groups]
        for group, tokens in zip(groups, self._sizes(texts), strict=True):
            if tokens <= budget or len(group) == 1:
                yield group
            else:
                middle = len(group) // 2
                yield from self._fit([group[:middle], group[middle:]], budget)


def _windows(units: Iterable[_Unit]) -> Iterator[list[_Unit]]:
    """Units in lists of a bounded length."""
    iterator = iter(units)
    while window := list(islice(iterator, _WINDOW)):
        yield window


def _gap(above: Block, below: Block) -> str:
    """What to write between two blocks: a blank line where the source has one, none between table rows."""
    is_table = above.kind == below.kind == "row"
    return "\n" if is_table or below.line - above.end_line < 2 else "\n\n"


def _slices(text: str, chars: int) -> Iterator[splitting.Span]:
    """Spans of a fixed length."""
    return ((at, min(at + chars, len(text))) for at in range(0, len(text), chars))


def _pieces(unit: _Unit, split: splitting.Splitter) -> Iterator[_Unit]:
    text = unit.text
    aligned = text.count("\n") == unit.end_line - unit.line
    cursor, line = 0, unit.line
    for start, end in split(text):
        glue = text[cursor:start] if cursor else unit.glue
        # White space that opens the unit is the indentation of its first line.
        begin = 0 if not cursor else start
        if aligned:
            line += text.count("\n", cursor, start)
            last = line + text.count("\n", start, end)
            yield _Unit(text[begin:end], line, last, glue)
            line = last
        else:
            yield _Unit(text[begin:end], unit.line, unit.end_line, glue)
        cursor = end
