"""What was decided about skills, and why: a line of JSON each, in the folder of the skills."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.logger import get_logger

__all__ = ["Decision", "DecisionLog"]

_log = get_logger(__name__)
_FILE = "decisions.jsonl"


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        skill: its name.
        decision: "kept", "rejected" or "removed".
        reasons: why, in words.
        figures: what was measured, by name.
        decided_at: when, ISO 8601 in UTC.
    """

    skill: str
    decision: str
    reasons: Sequence[str] = ()
    figures: dict[str, float] = field(default_factory=dict)
    decided_at: str = ""


class DecisionLog:
    """Decisions in their order; what is written stays.

    Args:
        folder: of the skills.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE

    def append(self, decision: Decision) -> None:
        """Add a decision, with the time unless it has one; it is on the disk afterwards."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = json.dumps({**asdict(decision), "decided_at": decision.decided_at or now}, ensure_ascii=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that was torn by a crash ends here, and not in the one behind it.
        with self.path.open("ab") as file:
            torn = file.tell() > 0 and not self._ends_whole()
            file.write(b"\n" * torn + line.encode("utf-8", "surrogatepass") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Decision]:
        """All that can be read; a damaged line is told and left out."""
        try:
            lines = self.path.read_bytes().decode("utf-8", "replace").split("\n")
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            decision = _decision(line)
            if decision is None:
                _log.warning("%s, line %d: damaged, left out", self.path, number)
            else:
                found.append(decision)
        return found

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _decision(line: str) -> Decision | None:
    try:
        row: Any = json.loads(line)
        return Decision(
            str(row["skill"]),
            str(row["decision"]),
            tuple(map(str, row["reasons"])),
            {str(name): float(value) for name, value in row["figures"].items()},
            str(row["decided_at"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
