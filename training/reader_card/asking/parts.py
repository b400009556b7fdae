"""Rows written in parts as they come, and what was written before."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Parts", "lines_of"]

_MOST_BYTES = 12 << 20


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON Lines, packed or not; a line that was cut off at the end is left out."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        try:
            for line in lines:
                if line.endswith("\n"):
                    yield json.loads(line)
        except EOFError:
            return


class Parts:
    """`NAME-00.jsonl.gz`, `NAME-01.jsonl.gz` …: none much longer than 12 MiB, whole after every batch.

    A run that is begun again goes on in a part of its own.

    Args:
        folder: where they stand.
        name: of all of them.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._number = len(self.paths())

    def paths(self) -> list[Path]:
        """Those that are there."""
        return sorted(self._folder.glob(f"{self._name}-[0-9]*.jsonl.gz"))

    def rows(self) -> Iterator[dict[str, Any]]:
        """What stands in them."""
        for path in self.paths():
            yield from lines_of(path)

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Some more, safe on the disk when this returns."""
        path = self._folder / f"{self._name}-{self._number:02}.jsonl.gz"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with path.open("ab") as part:
            # A member of its own for each batch: what was written can be read whatever happens next.
            part.write(gzip.compress(text.encode(), 6))
            self._number += part.tell() > _MOST_BYTES
