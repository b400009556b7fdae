"""A file of JSON lines that is only ever appended to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ai_os_diffusion.utils.files.atomic_file import sync_path
from ai_os_diffusion.utils.files.file_lock import hold
from ai_os_diffusion.utils.files.regular_file import Raised, open_regular
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["AppendedLog"]

_log = get_logger(__name__)

T = TypeVar("T")


class AppendedLog:
    """Rows in their order; what was appended stays, whatever ends the process.

    Processes may append at the same time: each waits for the other.

    Args:
        path: the file.
        error: class of the error to raise where something else has its name.
    """

    def __init__(self, path: Path, error: Raised) -> None:
        self.path, self._error = path, error

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; it is on the disk afterwards.

        Raises:
            OSError: it cannot be written.
            error: the name is taken by something else than a file.
        """
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        if not is_new:
            # A pipe would block whoever opens it.
            open_regular(self.path, None, self._error).close()
        with self.path.open("ab") as file:
            hold(file, waits=True)
            # A line that was torn by a crash ends here, and not in the one behind it.
            torn = file.seek(0, os.SEEK_END) > 0 and not self._ends_whole()
            file.write(b"\n" * torn + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_path(self.path.parent)

    def read(self, parsed: Callable[[Any], T]) -> list[T]:
        """All that can be read; a damaged line is told and left out.

        Args:
            parsed: makes something of a row; a ValueError, KeyError, TypeError or AttributeError says that
                it is none.
        """
        try:
            with open_regular(self.path, None, self._error) as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found.append(parsed(json.loads(line.decode("utf-8", "surrogatepass"))))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                _log.warning("%s, line %d: damaged, left out", self.path, number)
        return found

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
