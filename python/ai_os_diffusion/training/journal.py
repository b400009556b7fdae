"""What a run has told: a line of JSON for each moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["Journal"]


class Journal:
    """`log.jsonl` of a run.

    Args:
        path: the file.
        step: the run goes on behind this step; what was told of later ones is told again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self.records: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    # The last line of a run that was killed while it wrote.
                    continue
                if record["step"] <= step:
                    self.records.append(record)
            with replacing(path) as draft:
                draft.write_text("".join(_line(record) for record in self.records), encoding="utf-8")

    def add(self, record: dict[str, Any]) -> None:
        """Write a line."""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
