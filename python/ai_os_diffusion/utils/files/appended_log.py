"""A file of JSON lines that is appended to, and compacted where it would grow without end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from ai_os_diffusion.utils.files.atomic_file import replacing, sync_path
from ai_os_diffusion.utils.files.file_lock import hold
from ai_os_diffusion.utils.files.regular_file import Raised, open_regular
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["AppendedLog"]

_log = get_logger(__name__)

T = TypeVar("T")

_CHUNK = 1 << 20


class AppendedLog:
    """Rows in their order; what was appended stays, whatever ends the process.

    Processes may append at the same time: each waits for the other.

    Args:
        path: the file.
        error: class of the error to raise where something else has its name.
        compacted: of all rows, those that stay. It is asked each time the file has grown by `_CHUNK` bytes,
            and a file of what stays then takes the place of the other at once. None keeps all.
    """

    def __init__(
        self, path: Path, error: Raised, compacted: Callable[[list[Any]], Iterable[Any]] | None = None
    ) -> None:
        self.path, self._error, self._compacted = path, error, compacted

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; it is on the disk afterwards.

        Raises:
            OSError: it cannot be written.
            error: the name is taken by something else than a file.
        """
        line = _line(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        if not is_new:
            # A pipe would block whoever opens it.
            open_regular(self.path, None, self._error).close()
        with self._held() as file:
            # A line that was torn by a crash ends here, and not in the one behind it.
            before = file.seek(0, os.SEEK_END)
            torn = before > 0 and not self._ends_whole()
            file.write(b"\n" * torn + line)
            file.flush()
            os.fsync(file.fileno())
            if before // _CHUNK < file.tell() // _CHUNK:
                self._compact()
        if is_new:
            sync_path(self.path.parent)

    @contextmanager
    def _held(self) -> Iterator[IO[bytes]]:
        """The file, open to append to and locked."""
        while True:
            with self.path.open("ab") as file:
                hold(file, waits=True)
                # Whom it was waited for may have put another in its place.
                if self._is_in_place(file):
                    yield file
                    return

    def _is_in_place(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _compact(self) -> None:
        """Leave what stays; called by who holds the file."""
        if self._compacted is None:
            return
        rows = [row for _, row in self._rows()]
        kept = list(self._compacted(rows))
        if len(kept) == len(rows):
            return
        try:
            with replacing(self.path) as draft:
                draft.write_bytes(b"".join(map(_line, kept)))
        except OSError as error:
            # The row is there, and so is everything else: the next chunk is another occasion.
            _log.warning("%s is not compacted: %s", self.path, error)

    def read(self, parsed: Callable[[Any], T]) -> list[T]:
        """All that can be read; a damaged line is told and left out.

        Args:
            parsed: makes something of a row; a ValueError, KeyError, TypeError or AttributeError says that
                it is none.
        """
        found = []
        for number, row in self._rows():
            try:
                found.append(parsed(row))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self._tell_damaged(number)
        return found

    def _rows(self) -> Iterator[tuple[int, Any]]:
        """What is JSON, with the number of its line; any other line is told and left out."""
        try:
            with open_regular(self.path, None, self._error) as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8", "surrogatepass"))
            except (ValueError, RecursionError):
                self._tell_damaged(number)
                continue
            yield number, row

    def _tell_damaged(self, number: int) -> None:
        _log.warning("%s, line %d: damaged, left out", self.path, number)

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _line(row: object) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"
