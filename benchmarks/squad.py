"""Questions of `squad_dev_a` on their own paragraph, and how SQuAD judges answers (arXiv:1606.05250)."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_os_diffusion.utils.answer_match import plain, word_f1


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the paragraph that answers it, every answer that counts, and the article it is of."""

    text: str
    paragraph: str
    answers: tuple[str, ...]
    article: str


def paragraphs(data: Path) -> list[dict[str, str]]:
    """All of them: `id`, `title`, `text`."""
    with gzip.open(data / "squad_dev_a" / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def questions(data: Path) -> list[Question]:
    """All of them, in the order of the file."""
    found_by = {row["id"]: row for row in paragraphs(data)}
    with gzip.open(data / "squad_dev_a" / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [
            Question(row["question"], found["text"], tuple(row["answers"]), found["title"])
            for row in map(json.loads, lines)
            if (found := found_by[row["paragraph_id"]])
        ]


def card_questions(data: Path) -> list[Question]:
    """The 500 that cards of the recipe are judged by."""
    return random.Random(0).sample(questions(data), 500)


def judged(asked: Sequence[Question], said: Sequence[str]) -> dict[str, float]:
    """Exact match and F1 in per cent, of each question the better of its answers."""
    exact = [
        any(plain(text) == plain(answer) for answer in question.answers)
        for question, text in zip(asked, said, strict=True)
    ]
    f1 = [
        max(word_f1(text, answer) for answer in question.answers)
        for question, text in zip(asked, said, strict=True)
    ]
    return {
        "exact": round(100 * sum(exact) / len(asked), 1),
        "f1": round(100 * sum(f1) / len(asked), 1),
    }
