"""What a reader makes of a file: blocks of text that know their lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Block", "BlockKind", "Document"]

BlockKind = Literal["prose", "code", "row"]
"""How a block may be split: at sentences, at lines, or only as a last resort."""


@dataclass(frozen=True, slots=True)
class Block:
    """The smallest piece a reader tells apart: a paragraph, a fence, a list item, a table row.

    Attributes:
        text: the block's text, lines separated by a line feed.
        line: 1-based source line of its first character.
        end_line: 1-based source line of its last character.
        kind: how the chunker may split it.
        headings: titles above it, outermost first.
        metadata: what else the reader knows; blocks of differing metadata never share a chunk.
    """

    text: str
    line: int
    end_line: int
    kind: BlockKind = "prose"
    headings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_aligned(self) -> bool:
        """Whether line `i` of the text is line `self.line + i` of the source."""
        return self.text.count("\n") == self.end_line - self.line


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read.

    Attributes:
        source: its path or address.
        kind: the reader that took it ("markdown", "pdf", ...).
        blocks: its text in reading order.
        encoding: the text encoding found; None for formats that carry their own.
        refused_lines: 1-based lines that are not what the format expects, and were left out.
    """

    source: str
    kind: str
    blocks: tuple[Block, ...]
    encoding: str | None = None
    refused_lines: tuple[int, ...] = ()
