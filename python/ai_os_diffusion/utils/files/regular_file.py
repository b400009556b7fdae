"""Opening files that somebody else made: only regular ones, and only as large as they may be.

A name in a folder of foreign origin can be a pipe, which blocks whoever opens it, a device, which never ends,
or a file larger than memory.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["open_regular", "parse_json", "read_json", "read_regular"]

Raised = Callable[[str], Exception]
"""The class of the error that a caller's format has for such a file."""

_PIECE = 1 << 20


def open_regular(path: str | os.PathLike[str], max_bytes: int | None, error: Raised) -> IO[bytes]:
    """Open a file to read it, without blocking on what is none.

    Links are followed: what they lead to is what counts.

    Args:
        path: the file.
        max_bytes: its largest permissible size; None where nothing of its size is kept in memory.
        error: class of the error to raise.

    Raises:
        FileNotFoundError: there is none.
        OSError: the system refuses.
        error: it is something else than a regular file, or larger.
    """
    # Before, for opening alone can set a device going; after, for the name may lead elsewhere by then.
    _check(Path(path), Path(path).stat(), max_bytes, error)
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)  # not every system has all
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(Path(path), os.fstat(file.fileno()), max_bytes, error)
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], max_bytes: int, error: Raised) -> bytes:
    """The content of a file, as `open_regular` opens it; one that grows meanwhile is refused too."""
    with open_regular(path, max_bytes, error) as file:
        # Memory for what is there; and one byte more tells whether it is all.
        content = file.read(os.fstat(file.fileno()).st_size + 1)
        while len(content) <= max_bytes and (more := file.read(min(_PIECE, max_bytes + 1 - len(content)))):
            content += more
    if len(content) > max_bytes:
        raise error(_too_large(Path(path), len(content), max_bytes))
    return content


def read_json(path: str | os.PathLike[str], max_bytes: int, error: Raised) -> Any:
    """The value that a file holds, as `read_regular` reads it and `parse_json` parses it."""
    return parse_json(read_regular(path, max_bytes, error), str(path), error)


def parse_json(content: bytes | str, name: str, error: Raised) -> Any:
    """Parse JSON that somebody else wrote.

    Args:
        content: the text, in UTF-8, UTF-16 or UTF-32.
        name: what it is, for the message.
        error: class of the error to raise.

    Raises:
        error: it is no JSON, or nested deeper than can be read.
    """
    try:
        return json.loads(content)
    except ValueError as problem:
        raise error(f"{name}: cannot be read as JSON: {problem}") from problem
    except RecursionError as problem:
        raise error(f"{name}: cannot be read as JSON: it is nested too deeply") from problem


def _check(path: Path, found: os.stat_result, max_bytes: int | None, error: Raised) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: expected a regular file, got {_kind(found.st_mode)}; put the file itself there")
    if max_bytes is not None and found.st_size > max_bytes:
        raise error(_too_large(path, found.st_size, max_bytes))


def _too_large(path: Path, size_bytes: int, max_bytes: int) -> str:
    return f"{path}: has {size_bytes} bytes, expected at most {max_bytes}; it is no file of its kind"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "something else"
