"""Questions and answers that a skill is learned from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.wordings import reworded
from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.regular_file import parse_json, read_regular

__all__ = ["QAPair", "QAPairs", "rows_of"]

MOST_EXAMPLES = 1000
"""What a card tells of its questions: a question is nearest to some of them, whatever their number."""

OTHER_WORDS = 0.3
"""Part of the words of a question that is left out where nobody gave it in other words: twice as much as in
learning."""

_MOST_BYTES = 256 << 20

_QUESTION, _ANSWER = ("q", "question"), ("a", "answer")


@dataclass(frozen=True, slots=True)
class QAPair:
    """A question and what is to be answered.

    Attributes:
        question: as it is asked.
        answer: as it is given.
        passage: a text that holds the answer, by which other wordings are checked; "" is none.
    """

    question: str
    answer: str
    passage: str = field(default="", compare=False)


@dataclass(frozen=True)
class QAPairs:
    """Pairs, each once.

    Attributes:
        pairs: in the order given.
        repeated: pairs that were there before.
        contradicted: questions that have another answer too.
        wordings: other questions that a pair is asked as well.
    """

    pairs: tuple[QAPair, ...]
    repeated: int = 0
    contradicted: int = 0
    wordings: Mapping[QAPair, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Any], place: str = "qa_pairs") -> QAPairs:
        """Check pairs before anything is computed.

        Args:
            rows: `QAPair`, or mappings with `q` and `a`, or `question` and `answer`, and maybe `passage`;
                other keys are not read.
            place: names them in errors.

        Raises:
            TrainingError: there are none, or one lacks its question or answer.
        """
        if isinstance(rows, str | bytes | Mapping):
            raise TrainingError(f"{place} is a {type(rows).__name__}, expected a list of pairs")
        kept: dict[QAPair, None] = {}
        answers: dict[str, str] = {}
        repeated, contradicted = 0, set()
        for number, row in enumerate(rows, 1):
            pair = row if isinstance(row, QAPair) else _pair(row, f"{place}, {number}")
            if pair in kept:
                repeated += 1
                continue
            kept[pair] = None
            if answers.setdefault(pair.question.casefold(), pair.answer) != pair.answer:
                contradicted.add(pair.question.casefold())
        if not kept:
            raise TrainingError(f"{place} is empty, expected at least one pair of a question and an answer")
        return cls(tuple(kept), repeated, len(contradicted))

    @classmethod
    def read(cls, path: Path) -> QAPairs:
        """Read a file: `.jsonl`, `.json` (a list) or `.csv` with a header.

        Raises:
            TrainingError: it cannot be read, or a pair is not whole.
        """
        return cls.of(rows_of(path), str(path))

    @property
    def digest(self) -> str:
        """The sha256 of the pairs and their wordings."""
        rows = [[pair.question, pair.answer, *self.wordings.get(pair, ())] for pair in self.pairs]
        text = json.dumps(rows, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def examples(self, seed: int) -> list[str]:
        """Questions that tell what the pairs are about, at most `MOST_EXAMPLES`, drawn by a seed."""
        questions = list(dict.fromkeys(pair.question for pair in self.pairs))
        if len(questions) > MOST_EXAMPLES:
            questions = random.Random(seed).sample(questions, MOST_EXAMPLES)  # noqa: S311  # no secret
        return questions

    def in_other_words(self, most: int, seed: int) -> list[QAPair]:
        """At most so many of the pairs, each with words left out of its question."""
        rng = random.Random(f"{seed}/held out")  # noqa: S311  # no secret
        drawn = rng.sample(self.pairs, min(most, len(self.pairs)))
        return [QAPair(reworded(pair.question, OTHER_WORDS, rng), pair.answer) for pair in drawn]

    def in_one_wording(self, pair: QAPair, rng: random.Random) -> QAPair:
        """A pair in its own or one of its other wordings, each as often."""
        others = self.wordings.get(pair, ())
        return replace(pair, question=rng.choice((pair.question, *others))) if others else pair

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[QAPair]:
        return iter(self.pairs)


def rows_of(path: Path) -> list[Any]:
    """The rows of a file of pairs, unchecked.

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        return list(_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from error


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix not in (".csv", ".json", ".jsonl"):
        raise TrainingError(f"{path}: expected a file of pairs, .jsonl, .json or .csv")
    text = read_regular(path, _MOST_BYTES, TrainingError).decode("utf-8-sig")
    if path.suffix == ".csv":
        yield from csv.DictReader(io.StringIO(text, newline=""))
        return
    if path.suffix == ".json":
        found = parse_json(text, str(path), TrainingError)
        if not isinstance(found, list):
            raise TrainingError(f"{path}: expected a list of pairs, got {type(found).__name__}")
        yield from found
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield parse_json(line, f"{path}, line {number}", TrainingError)


def _pair(row: Any, place: str) -> QAPair:
    if not isinstance(row, Mapping):
        raise TrainingError(f"{place}: expected a mapping with q and a, got {type(row).__name__}")
    passage = row.get("passage") or ""
    if not isinstance(passage, str):
        raise TrainingError(f"{place}: expected passage as a text, got {type(passage).__name__}")
    parts = []
    for names in (_QUESTION, _ANSWER):
        given = [row[name] for name in names if row.get(name) is not None]
        if len(given) != 1 or not isinstance(given[0], str) or not given[0].strip():
            keys = ", ".join(map(str, row)) or "nothing"
            raise TrainingError(
                f"{place}: expected {' or '.join(names)} as a text that is not empty, got {keys}"
            )
        parts.append(given[0].strip())
    question, answer = parts
    return QAPair(question, answer, passage.strip())
