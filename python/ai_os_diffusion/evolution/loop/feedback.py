"""What came back from people: right answers, in a file that is only appended to."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.decision_log import now
from ai_os_diffusion.evolution.skills import skill_path
from ai_os_diffusion.utils.errors import EvolutionError, TrainingError
from ai_os_diffusion.utils.files.appended_log import AppendedLog

__all__ = ["Feedback", "FeedbackQueue"]

_FILE = "feedback.jsonl"

_MOST_LETTERS = 20_000
"""Of a text: what a pass of learning holds is far less, and a queue is read whole."""

_MOST_WORDINGS = 100


@dataclass(frozen=True)
class Feedback:
    """A question and what should be answered.

    Attributes:
        question: as it was asked.
        answer: the right one.
        said: what was answered instead; "" where nothing was.
        uncertainty: calibrated probability, at that time, that this was wrong; None where it is not known.
        wordings: the same question in other words.
        skill: where it belongs, if somebody said so.
        given_at: when, ISO 8601 in UTC.
        id: tells it from all others.

    Raises:
        TrainingError: a text is empty or too long, or a value is none.
    """

    question: str
    answer: str
    said: str = ""
    uncertainty: float | None = None
    wordings: Sequence[str] = ()
    skill: str | None = None
    given_at: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        for name, needed in (("question", True), ("answer", True), ("said", False)):
            object.__setattr__(self, name, _text(getattr(self, name), name, is_needed=needed))
        if isinstance(self.wordings, str) or len(self.wordings) > _MOST_WORDINGS:
            raise TrainingError(f"wordings: expected a list of at most {_MOST_WORDINGS} questions")
        wordings = [_text(wording, "a wording", is_needed=True) for wording in self.wordings]
        own = (wording for wording in dict.fromkeys(wordings) if wording != self.question)
        object.__setattr__(self, "wordings", tuple(own))
        if self.uncertainty is not None and not (
            isinstance(self.uncertainty, int | float)
            and math.isfinite(self.uncertainty)
            and 0 <= self.uncertainty <= 1
        ):
            raise TrainingError(
                f"uncertainty is {self.uncertainty!r}, expected a probability from 0 to 1, or none"
            )
        if self.skill is not None and (
            not isinstance(self.skill, str) or skill_path(self.skill, Path()) is None
        ):
            raise TrainingError(
                f"{self.skill!r} is no name of a skill; expected letters, digits, '-', '_' and '.'"
            )

    @property
    def questions(self) -> tuple[str, ...]:
        """All wordings, the one that was asked first."""
        return (self.question, *self.wordings)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Feedback:
        """Read what `to_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is none.
        """
        try:
            found = cls(**{name: row[name] for name in cls.__dataclass_fields__})
        except TrainingError as error:
            raise ValueError(str(error)) from error
        if not (isinstance(found.id, str) and found.id and isinstance(found.given_at, str)):
            raise ValueError("it has no id or time")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "wordings": list(self.wordings)}


class FeedbackQueue:
    """What came back, in its order. What of it is settled, the decisions tell.

    Args:
        folder: of the skills.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._log = AppendedLog(self.path, EvolutionError)

    @property
    def state(self) -> tuple[int, int]:
        """Changes whenever something comes in."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return (0, 0)
        return found.st_size, found.st_mtime_ns

    def append(self, feedback: Feedback) -> Feedback:
        """Take it in, with a time and an id unless it has them; it is on the disk afterwards."""
        taken = replace(feedback, given_at=feedback.given_at or now(), id=feedback.id or uuid.uuid4().hex)
        self._log.append(taken.to_dict())
        return taken

    def read(self) -> list[Feedback]:
        """All that can be read, each once; a damaged line is told and left out."""
        return list({feedback.id: feedback for feedback in self._log.read(Feedback.of)}.values())


def _text(value: object, name: str, *, is_needed: bool) -> str:
    if not isinstance(value, str):
        raise TrainingError(f"{name} is {value!r}, expected a text")
    text = value.strip()
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TrainingError(f"{name} holds half of a letter (a lone surrogate); expected text")
    if is_needed and not text:
        raise TrainingError(f"{name} is empty, expected a text")
    if len(text) > _MOST_LETTERS:
        raise TrainingError(f"{name} has {len(text)} letters, expected at most {_MOST_LETTERS}; shorten it")
    return text
