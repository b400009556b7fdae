"""What was decided about skills, and why: a line of JSON each, in the folder of the skills."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import EvolutionError
from ai_os_diffusion.utils.files.appended_log import AppendedLog

__all__ = ["Decision", "DecisionLog", "now"]

_FILE = "decisions.jsonl"


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        skill: its name; "" where none is concerned.
        decision: of a gate "kept" or "rejected"; "removed", "rolled back", "retired"; "proven" where a skill
            was asked again and helps; "refused" what cannot be learned, "dropped" what was learned for one
            that was changed meanwhile; of an `EvolutionRouter` its level.
        reasons: why, in words.
        figures: what was measured, by name.
        decided_at: when, ISO 8601 in UTC.
        inputs: what it was decided from, as JSON values.
    """

    skill: str
    decision: str
    reasons: Sequence[str] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    decided_at: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Decision:
        """Read what `to_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is none.
        """
        return cls(
            str(row["skill"]),
            str(row["decision"]),
            tuple(map(str, row["reasons"])),
            {str(name): float(value) for name, value in row["figures"].items()},
            str(row["decided_at"]),
            dict(row.get("inputs") or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class DecisionLog:
    """Decisions in their order; what is written stays.

    Args:
        folder: of the skills.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._log = AppendedLog(self.path, EvolutionError)

    def append(self, decision: Decision) -> None:
        """Add a decision, with the time unless it has one; it is on the disk afterwards."""
        self._log.append({**decision.to_dict(), "decided_at": decision.decided_at or now()})

    def read(self) -> list[Decision]:
        """All that can be read; a damaged line is told and left out."""
        return self._log.read(Decision.of)


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
