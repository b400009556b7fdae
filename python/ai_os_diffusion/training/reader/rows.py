"""What a reader is trained on: a question and passages, each with its answers or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.untrusted_values import MAX_TEXT, UntrustedValues
from ai_os_diffusion.training.example_files import read_objects
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Asked", "Passage", "read_asked"]

_KEYS = ("question", "passages", "kind", "source", "licence")
_PASSAGE_KEYS = ("text", "answers", "relevant", "block")
_ANSWER_KEYS = ("start", "text")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage beside a question.

    Attributes:
        text: of the passage.
        answers: begin and end of each that counts, in characters of the text.
        is_relevant: whether it answers the question, be it by no short span.
        is_block: whether the answer is a whole block, of which the answers are only where it begins to be
            told: a recipe says whether they are learned.
    """

    text: str
    answers: tuple[tuple[int, int], ...] = ()
    is_relevant: bool = False
    is_block: bool = False

    @classmethod
    def of(cls, values: UntrustedValues) -> Passage:
        """Read it.

        Raises:
            TrainingError: a key is unknown, or an answer does not stand where it is said to.
        """
        _check_keys(values, _PASSAGE_KEYS)
        text = values.text("text", high=MAX_TEXT)
        answers = []
        for answer in values.sections("answers"):
            _check_keys(answer, _ANSWER_KEYS)
            said = answer.text("text", high=MAX_TEXT)
            start = answer.integer("start", low=0, high=len(text))
            if not said.strip() or text[start : start + len(said)] != said:
                raise answer.fault("start", f"where {said[:40]!r} stands in the passage")
            answers.append((start, start + len(said)))
        return cls(text, tuple(answers), values.flag("relevant", bool(answers)), values.flag("block", False))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the passages that are read for it.

    Attributes:
        question: of the user.
        passages: those that answer it, and others.
        kind: of questions that are drawn as often as the recipe says.
    """

    question: str
    passages: tuple[Passage, ...]
    kind: str = "question"

    @classmethod
    def of(cls, row: Mapping[str, Any], place: str) -> Asked:
        """Read a row of a file.

        Args:
            row: `question`, `passages` (objects of `text`; `answers`, objects of `start` and `text`;
                `relevant`, by default whether there are answers; `block`), and `kind`; `source` and `licence`
                are for people.
            place: names it in errors.

        Raises:
            TrainingError: a key is unknown or missing, or a value is of another type or out of range.
        """
        values = UntrustedValues(place, row, TrainingError)
        _check_keys(values, _KEYS)
        question = values.text("question", high=MAX_TEXT)
        passages = tuple(map(Passage.of, values.sections("passages")))
        if not question.strip():
            raise values.fault("question", "a text that is not empty")
        if not passages:
            raise values.fault("passages", "at least one passage")
        return cls(question, passages, values.text("kind", "question", high=100))


def read_asked(path: Path) -> Iterator[Asked]:
    """The questions of a file.

    Raises:
        TrainingError: as for `Asked.of`, or a line is no JSON object; file and line are named.
    """
    for row, place in read_objects(path):
        yield Asked.of(row, place)


def _check_keys(values: UntrustedValues, known: tuple[str, ...]) -> None:
    if strange := [key for key in values if key not in known]:
        raise TrainingError(f"{values.place}: key {strange[0]!r} is not known; known: {', '.join(known)}")
