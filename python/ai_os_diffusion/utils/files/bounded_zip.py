"""Zip archives that somebody else made: their list of files is looked at before it is kept in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_os_diffusion.utils.files.regular_file import Raised, open_regular

__all__ = ["ARCHIVE_FAULTS", "open_archive"]

MAX_DIRECTORY_BYTES = 4 << 20
"""Of an archive's list of its files: tens of thousands. In memory it is ten times as large."""

_END_BYTES = (1 << 16) + 22
"""The record at the end of an archive, with the longest comment."""

ARCHIVE_FAULTS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError)
"""What zipfile and zlib raise for what is in an archive."""


@contextmanager
def open_archive(path: Path, kind: str, error: Raised) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever is wrong with it, here or in the block, is one error.

    Args:
        path: the file.
        kind: what it should be, for the message.
        error: class of the error to raise.

    Raises:
        error: it is no archive, or is damaged.
        OSError: the system refuses.
    """
    with open_regular(path, None, error) as file:
        try:
            size = file.seek(0, 2)
            file.seek(max(size - _END_BYTES, 0))
            end = file.read(_END_BYTES)
            at = end.rfind(b"PK\5\6")
            directory = int.from_bytes(end[at + 12 : at + 16], "little") if at >= 0 else 0
            if directory > MAX_DIRECTORY_BYTES:
                raise zipfile.BadZipFile(
                    f"its list of files has {directory} bytes, expected at most {MAX_DIRECTORY_BYTES}"
                )
            with zipfile.ZipFile(file) as archive:
                yield archive
        except ARCHIVE_FAULTS as problem:
            raise error(f"{path}: not {kind}: {problem}; fetch it again") from problem
