"""What a reader makes of a file: blocks of text that know their lines, and what is not in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = [
    "Block",
    "BlockKind",
    "Document",
    "Heading",
    "Remark",
    "RemarkKind",
    "Span",
    "joined_spans",
    "spans",
]

_SHOWN = 8
_MAX_RUNS = 4096
_NOTHING: Mapping[str, Any] = MappingProxyType({})

BlockKind = Literal["prose", "code", "row"]
"""How a block may be split: at sentences, at lines, or only as a last resort."""

Span = tuple[int, int]
"""First and last number of a run of lines or pages, 1-based, both included."""

RemarkKind = Literal["no_text", "damaged", "limit", "replaced", "opaque", "hidden", "navigation", "refused"]
"""Why something is not in the blocks as it stands in the file:

- `no_text`: a page shows something, but holds no text (a scan);
- `damaged`: it is not what the format expects (a broken page, a line that is not JSON);
- `limit`: reading it would take more time, memory or depth than one document is given;
- `replaced`: bytes that are not of the encoding, each read as one U+FFFD; nothing else is missing;
- `opaque`: bytes written as letters (base64, data URIs), which nobody reads;
- `hidden`: the format says that it is not shown;
- `navigation`: menus of a page, marked as such;
- `refused`: it was read, but the encoder or the store does not take it.
"""


class Heading(str):
    """A title that knows where it stands.

    Attributes:
        line: 1-based source line.
    """

    __slots__ = ("line",)

    line: int

    @classmethod
    def at(cls, line: int, text: str) -> Heading:
        """A title of a line."""
        heading = cls(text)
        heading.line = line
        return heading


class Block(NamedTuple):
    """The smallest piece a reader tells apart: a paragraph, a fence, a list item, a table row.

    Attributes:
        text: the block's text, lines separated by a line feed.
        line: 1-based source line of its first character.
        end_line: 1-based source line of its last character.
        kind: how the chunker may split it.
        headings: titles above it, outermost first.
        metadata: what else the reader knows; blocks of differing metadata never share a chunk.
        columns: of a row of a table, what its header says, which stands above it.
    """

    text: str
    line: int
    end_line: int
    kind: BlockKind = "prose"
    headings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = _NOTHING
    columns: str = ""

    @classmethod
    def below_each_other(
        cls,
        texts: Iterable[str],
        lines: Iterable[int],
        end_lines: Iterable[int],
        kind: BlockKind,
        headings: tuple[str, ...],
    ) -> Iterator[Block]:
        """Make blocks that differ in text and lines alone, faster than one by one."""
        same = repeat(kind), repeat(headings), repeat(_NOTHING), repeat("")
        rows = zip(texts, lines, end_lines, *same, strict=False)
        return map(tuple.__new__, repeat(cls), rows)

    @property
    def is_aligned(self) -> bool:
        """Whether line `i` of the text is line `self.line + i` of the source."""
        return self.text.count("\n") == self.end_line - self.line


@dataclass(frozen=True, slots=True)
class Remark:
    """Something of a file that is not in its blocks, or not as it stands in the file.

    A document has at most one remark for each pair of kind and reason. Every word that is shown to the
    reader of a file is in a block (as text or heading) or on a line or page that a remark names.

    Attributes:
        kind: why, for programs.
        reason: why, in words for people, with what to do where something can be done.
        lines: where, for formats that have lines, in order; of thousands of places near ones are one.
        pages: where, for formats that have pages, in order.
    """

    kind: RemarkKind
    reason: str
    lines: tuple[Span, ...] = ()
    pages: tuple[Span, ...] = ()

    @property
    def is_loss(self) -> bool:
        """Whether text a reader of the file might want is missing, rather than told as not shown."""
        return self.kind not in ("replaced", "hidden", "navigation")

    def __str__(self) -> str:
        places = [_listed("page", self.pages), _listed("line", self.lines)]
        return ": ".join([*filter(None, places), self.reason])


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read.

    Attributes:
        source: its path or address.
        kind: the reader that took it ("markdown", "pdf", ...).
        blocks: its text in reading order.
        encoding: the text encoding found; None for formats that carry their own.
        remarks: what is not in the blocks, and why; empty when everything is.
    """

    source: str
    kind: str
    blocks: tuple[Block, ...]
    encoding: str | None = None
    remarks: tuple[Remark, ...] = ()


def spans(numbers: Iterable[int]) -> tuple[Span, ...]:
    """Join numbers to runs: 1, 2, 3, 7 are (1, 3) and (7, 7).

    Args:
        numbers: lines or pages, in any order.
    """
    known = np.sort(np.fromiter(numbers, np.int64))
    begins = np.flatnonzero(np.diff(known, prepend=known[:1] - 2) > 1)
    ends = np.append(begins[1:], len(known)) - 1
    return _few(list(zip(known[begins].tolist(), known[ends[: len(begins)]].tolist(), strict=True)))


def joined_spans(*parts: Iterable[Span]) -> tuple[Span, ...]:
    """Join runs where one ends as the next begins, and, of very many, those that are nearest.

    Args:
        parts: runs, all in order.
    """
    runs: list[Span] = []
    for first, last in chain(*parts):
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return _few(runs)


def _few(runs: list[Span]) -> tuple[Span, ...]:
    """Runs, those that are nearest joined where they are very many."""
    if len(runs) <= _MAX_RUNS:
        return tuple(runs)
    places = np.asarray(runs)
    gaps = places[1:, 0] - places[:-1, 1]
    widest = np.argsort(gaps, kind="stable")[1 - _MAX_RUNS // 2 :] + 1
    bounds = [0, *np.sort(widest).tolist(), len(runs)]
    return tuple((runs[begin][0], runs[end - 1][1]) for begin, end in pairwise(bounds))


def _listed(noun: str, runs: tuple[Span, ...]) -> str:
    """Such as "pages 2-4, 7"; only the first runs of many."""
    if not runs:
        return ""
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs[:_SHOWN])
    rest = f" and {len(runs) - _SHOWN} more places" if len(runs) > _SHOWN else ""
    plural = "" if len(runs) == 1 and runs[0][0] == runs[0][1] else "s"
    return f"{noun}{plural} {shown}{rest}"
