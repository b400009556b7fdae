"""What every format that can be read in pieces is read by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ai_os_diffusion.ingestion.document import Block, Remark

__all__ = ["PieceReader"]


class PieceReader(Protocol):
    """Reads one document, whole or one piece after another, in memory that depends on the piece alone."""

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """Yield the blocks of the next piece, or those that end in it.

        Args:
            text: the piece; lines are separated by line feeds.
            first_line: number of its first line in the document.
        """
        ...

    def end(self) -> Iterator[Block]:
        """End the document; yield what was left of it.

        Raises:
            IngestError: nothing of it was what the format expects.
        """
        ...

    def take_remarks(self) -> list[Remark]:
        """What is not in the blocks, since this was last asked."""
        ...
