"""What was decided about skills, and why: a line of JSON each, in the folder of the skills."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import EvolutionError
from ai_os_diffusion.utils.files.appended_log import AppendedLog

__all__ = ["Decision", "DecisionLog", "now", "times_of"]

_FILE = "decisions.jsonl"

_MOST_SITUATIONS = 1000
"""What a router decided without changing anything: of so many questions the latest decision stays, about a
kilobyte each. All else is as much as people gave."""


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
        inputs: what it was decided from, as JSON values; `times` where the log has one decision in the place
            of so many on the same question.
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
    """Decisions in their order. What settles a correction or changes a skill stays; see `_lasting`.

    Args:
        folder: of the skills.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._log = AppendedLog(self.path, EvolutionError, _lasting)

    def append(self, decision: Decision) -> None:
        """Add a decision, with the time unless it has one; it is on the disk afterwards."""
        self._log.append({**decision.to_dict(), "decided_at": decision.decided_at or now()})

    def read(self) -> list[Decision]:
        """All that can be read; a damaged line is told and left out."""
        return self._log.read(Decision.of)


def _lasting(rows: list[Any]) -> Iterator[Any]:
    """Of the rows of a log those that something is still made of.

    Learning, versions and history need all that settles a correction or changes a skill. Of what was proven
    the latest of each skill says whether it has to be asked again. Of what a router decided about a question
    the latest stays, with the number of times, for the questions asked last: each can be replayed alone. What
    is no decision, of a later release maybe, stays.
    """
    latest: dict[tuple[str, str, str], int] = {}
    times: dict[tuple[str, str, str], int] = {}
    keys = [_repeated_as(row) for row in rows]
    for number, (row, key) in enumerate(zip(rows, keys, strict=True)):
        if key is not None:
            # In the order in which they were asked last.
            latest.pop(key, None)
            latest[key] = number
            times[key] = times.get(key, 0) + times_of(row["inputs"])
    situations = [number for key, number in latest.items() if key[0] == "situation"]
    kept = {*latest.values()} - {*situations[:-_MOST_SITUATIONS]}
    for number, (row, key) in enumerate(zip(rows, keys, strict=True)):
        if key is None:
            yield row
        elif number in kept and times[key] > 1 and key[0] == "situation":
            yield {**row, "inputs": {**row["inputs"], "times": times[key]}}
        elif number in kept:
            yield row


def times_of(inputs: Mapping[str, Any]) -> int:
    """How many decisions one stands for."""
    times = inputs.get("times", 1)
    return times if isinstance(times, int) and not isinstance(times, bool) and times > 0 else 1


def _repeated_as(row: Any) -> tuple[str, str, str] | None:
    """What a later decision takes the place of an earlier one by; None of one that stays."""
    try:
        decision = Decision.of(row)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    situation = decision.inputs.get("situation")
    if isinstance(situation, Mapping):
        query = " ".join(str(situation.get("query", "")).casefold().split())
        return "situation", f"{decision.skill}/{decision.decision}", query
    return ("proven", decision.skill, "") if decision.decision == "proven" else None


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
