"""Gzip files: the document that is compressed in one, within a bound."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import PurePath
from typing import IO

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["inner_document", "inner_name", "is_gzip", "unpacked"]

_MAGIC = b"\x1f\x8b"
# Deflate makes at most 1,032 bytes of one; of prose 2 to 4, of logs 9 to 14.
_MAX_TIMES = 200
# Short files may be larger by more.
_SPARE_BYTES = 16_000_000
_MAX_BYTES = 1_000_000_000
# Of what is in memory as a whole, which a document that is read in pieces never is.
_MAX_WHOLE_BYTES = 64_000_000
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_ARCHIVE = "an archive (tar), which is not read; unpack it (tar xzf NAME) and add its folder"


def inner_name(name: str) -> str:
    """The name of what is in a gzip file: `notes.txt` for `notes.txt.gz`, `ls.1` for `ls.1.gz`."""
    return name[: -len(".gz")] if name.lower().endswith(".gz") else name


def is_gzip(name: str, head: bytes) -> bool:
    """Whether a file is a gzip file and called one.

    Args:
        name: its name.
        head: its beginning.
    """
    return head.startswith(_MAGIC) and PurePath(name.lower()).suffix in (".gz", ".tgz")


def inner_document(name: str, data: bytes) -> tuple[str, bytes]:
    """The name and content of a document that is in memory: of what is in it where it is a gzip file.

    Raises:
        IngestError: it is damaged, holds what is not read, or unpacks to too much.
    """
    if is_gzip(name, data):
        with unpacked(io.BytesIO(data), len(data), _MAX_WHOLE_BYTES) as file:
            data = file.read()
    return inner_name(name), data


def unpacked(file: IO[bytes], size_bytes: int, most_bytes: int | None = None) -> IO[bytes]:
    """Open what is compressed in a gzip file; closing it closes the file.

    Reading raises IngestError where the file is damaged, far larger than documents are, or holds what is not
    read: an archive, or a gzip file again.

    Args:
        file: open for reading, at its beginning.
        size_bytes: of the file, compressed.
        most_bytes: unpacked, whatever it is; by default those of the largest document that is read in pieces.
    """
    return io.BufferedReader(_Unpacked(file, size_bytes, _MAX_BYTES if most_bytes is None else most_bytes))


class _Unpacked(io.RawIOBase):
    """The bytes of a gzip file."""

    def __init__(self, file: IO[bytes], size_bytes: int, most_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._unpacked = gzip.GzipFile(fileobj=file, mode="rb")
        self._done = 0
        self._most = min(most_bytes, _SPARE_BYTES + _MAX_TIMES * size_bytes)
        self._head = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes that were read."""
        return self._done

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As `io.RawIOBase.readinto`."""
        try:
            data = self._unpacked.read(len(buffer))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IngestError(
                f"damaged: gzip cannot unpack it ({error}); restore it, or add what `gunzip` makes of it"
            ) from error
        self._done += len(data)
        if self._done > self._most:
            raise IngestError(
                f"it unpacks to more than {self._most / 1e6:.0f} MB, far more than a document of its size; "
                "unpack it (gunzip NAME) and add what is in it"
            )
        if len(self._head) < _TAR_MAGIC_AT + len(_TAR_MAGIC):
            self._head += data[: _TAR_MAGIC_AT + len(_TAR_MAGIC)]
            if self._head.startswith(_MAGIC):
                raise IngestError(
                    "a gzip file within a gzip file, which is not read; unpack it (gunzip NAME)"
                )
            if self._head.startswith(_TAR_MAGIC, _TAR_MAGIC_AT):
                raise IngestError(_ARCHIVE)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close both."""
        if not self.closed:
            self._unpacked.close()
            self._file.close()
        super().close()
