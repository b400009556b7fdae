"""Text that a user hands over: through a pipe, at a prompt, or as words of the command line.

Shells pass bytes, and not everybody's are UTF-8: they are decoded as the files of `add` are.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ai_os_diffusion.cli.terminal.interruption import pass_over
from ai_os_diffusion.cli.terminal.streams import ask
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["is_file", "is_interactive", "prompted_lines", "read_bytes", "read_lines", "read_text", "to_text"]

_PROMPT = "> "


def is_interactive() -> bool:
    """Whether a person types."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_bytes() -> bytes:
    """All of standard input; nothing where it is closed."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def read_text() -> str:
    """All of standard input as text, its lines ended by line feeds.

    Raises:
        IngestError: it is not text.
    """
    try:
        return to_text(read_bytes())
    except IngestError as error:
        raise IngestError(f"standard input: {error}") from error


def read_lines() -> Iterator[bytes]:
    """The lines of standard input as they come."""
    while line := b"" if sys.stdin is None else sys.stdin.buffer.readline():
        yield line


def prompted_lines() -> Iterator[str]:
    """What a person types, line by line, with line editing; Ctrl-C empties the line, Ctrl-D ends."""
    import readline  # noqa: F401 - gives input() its line editing

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        try:
            if not sys.stdout.isatty():
                # input() would write its prompt among the data.
                ask(_PROMPT)
            yield input(_PROMPT if sys.stdout.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            pass_over()
            sys.stderr.write("\n")


def is_file(text: str) -> bool:
    """Whether a text is the name of a file, which somebody may have meant."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        # Too long, or no name at all.
        return False


def to_text(given: bytes | str) -> str:
    """Decode a line or an argument; in a `str`, Python keeps bytes that are not UTF-8 as lone surrogates.

    Raises:
        IngestError: it is not text.
    """
    if isinstance(given, str):
        try:
            given.encode()
        except UnicodeEncodeError:
            given = os.fsencode(given)
        else:
            return given
    from ai_os_diffusion.ingestion.decoding import decode

    return decode(given)[0]
