"""A long text file, read in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["text_pieces"]

_PIECE_CHARS = 1 << 18
# Parsed, a line of JSON may take thirty times its length.
_MAX_LINE_CHARS = 8_000_000


def text_pieces(
    file: TextIO, *, piece_chars: int = _PIECE_CHARS, whole_lines: bool = False
) -> Iterator[tuple[str, int]]:
    """Yield a text in pieces, each with the number of its first line.

    A piece ends at a blank line where there is one, else between lines, else between words.

    Args:
        file: open for reading, lines ended by line feeds.
        piece_chars: characters of a piece, about.
        whole_lines: end pieces between lines only, however long those are.

    Raises:
        IngestError: a line that is to stay whole is longer than can be read.
    """
    held, line = "", 1
    # As much again as is held, so that a line of any length is looked through about twice.
    while more := file.read(max(piece_chars, len(held))):
        held += more
        end = _end_of_line(held) if whole_lines else _end(held)
        if len(held) < piece_chars or not end:
            if len(held) > _MAX_LINE_CHARS:
                raise IngestError(f"line {line} has more than {_MAX_LINE_CHARS / 1e6:.0f} million characters")
            continue
        yield held[:end], line
        line += held.count("\n", 0, end)
        held = held[end:]
    if held:
        yield held, line


def _end_of_line(text: str) -> int:
    """Where the last whole line ends; 0 where none does."""
    return text.rfind("\n") + 1


def _end(text: str) -> int:
    """Where to end a piece: in its second half, so that what is held stays short."""
    for mark in ("\n\n", "\n", " ", "\t"):
        end = text.rfind(mark, len(text) // 2)
        if end >= 0:
            return end + len(mark)
    return len(text)
