"""Questions to many passages at once: what a reader finds in the nearest ones, and whether it is right.

An answer is right when its F1 with an accepted one, as SQuAD has it, is one half or more: exact match depends
on how many people were asked for accepted ones, and data differ in that.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ai_os_diffusion.answers.candidates import Candidate, candidates
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.utils.answer_match import plain, word_f1
from squad import paragraphs

READ = 10
"""Passages that are read, as `ask` does."""

_RIGHT_F1 = 0.5
_REMOVED_EVERY = 4
"""One question in so many is asked a second time, with all that could answer it taken away."""
_NEIGHBOURS = 12
"""Passages before and behind that are of the same document, where the data do not name it."""
_PASSAGES = 700
_PASSAGES_EACH = 12
"""Passages of a source at most, and for each question of it."""

_LONGEST = 2500


class Asked(NamedTuple):
    """A question, its accepted answers, and the passage they stand in."""

    text: str
    answers: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Pool:
    """Passages that are searched together, and questions to them.

    Attributes:
        name: of the data.
        passages: texts.
        articles: of each passage the document, by a number.
        questions: what is asked.
    """

    name: str
    passages: Sequence[str]
    articles: Sequence[int]
    questions: Sequence[Asked]

    def is_taken(self, index: int, asked: Asked) -> bool:
        """Whether a passage goes when what could answer a question is taken away."""
        text = self.passages[index].lower()
        return self.articles[index] == self.articles[asked.gold] or any(
            answer.lower() in text for answer in asked.answers
        )


@dataclass(frozen=True)
class Read:
    """A question as it was read.

    Attributes:
        asked: the question.
        found: answers that compete, by margin.
        removed: what could answer was taken away.
        pool: where it was asked.
    """

    asked: Asked
    found: Sequence[Candidate]
    removed: bool
    pool: str

    def is_right(self, candidate: Candidate) -> bool:
        """Whether an answer is right."""
        return not self.removed and self.f1(candidate) >= _RIGHT_F1

    def is_exact(self, candidate: Candidate) -> bool:
        """Whether an answer equals an accepted one, as SQuAD compares."""
        return any(plain(candidate.text) == plain(answer) for answer in self.asked.answers)

    def f1(self, candidate: Candidate) -> float:
        """Of the words of an answer, the best over the accepted ones."""
        return max(word_f1(candidate.text, answer) for answer in self.asked.answers)


def squad_pool(data: Path, count: int, seed: int) -> Pool:
    """Questions of `squad_dev_a` to all of its paragraphs."""
    rows = paragraphs(data)
    place = {row["id"]: index for index, row in enumerate(rows)}
    titles = {title: number for number, title in enumerate(dict.fromkeys(row["title"] for row in rows))}
    with gzip.open(data / "squad_dev_a" / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        questions = [json.loads(line) for line in lines]
    drawn = random.Random(seed).sample(questions, min(count, len(questions)))
    return Pool(
        "squad_dev_a",
        [row["text"] for row in rows],
        [titles[row["title"]] for row in rows],
        [Asked(row["question"], tuple(row["answers"]), place[row["paragraph_id"]]) for row in drawn],
    )


def row_pools(rows: Iterable[dict[str, Any]], count: int, seed: int) -> Iterator[Pool]:
    """Questions of rows as `reader/extractive.jsonl.gz` has them, each to passages of its own source.

    Args:
        rows: English ones with answers are taken.
        count: questions in all; of every source as many, as far as it has them.
        seed: draws passages and questions.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["lang"] == "en" and row["answers"] and len(row["context"]) <= _LONGEST:
            by_source.setdefault(row["source"], []).append(row)
    rng, left = random.Random(seed), count
    sources = sorted(by_source.items(), key=lambda pair: len(pair[1]))
    for number, (source, own) in enumerate(sources):
        share = left // (len(sources) - number)
        most = min(_PASSAGES, max(READ, _PASSAGES_EACH * share))
        contexts = list(dict.fromkeys(row["context"] for row in own))
        first = rng.randrange(max(1, len(contexts) - most + 1))
        contexts = contexts[first : first + most]
        place = {context: index for index, context in enumerate(contexts)}
        there = [row for row in own if row["context"] in place]
        drawn = rng.sample(there, min(share, len(there)))
        left -= len(drawn)
        questions = [
            Asked(
                row["question"],
                tuple(answer["text"] for answer in row["answers"]),
                place[row["context"]],
            )
            for row in drawn
        ]
        yield Pool(source, contexts, [index // _NEIGHBOURS for index in range(len(contexts))], questions)


def read_all(engine: Any, pool: Pool) -> Iterator[Read]:
    """Ask every question, and some a second time without what could answer them.

    Args:
        engine: an encoder with a reader attached.
        pool: what is asked.
    """
    vectors = engine.encode_document(list(pool.passages))
    near = engine.encode_query([asked.text for asked in pool.questions]) @ vectors.T
    for number, (asked, row) in enumerate(zip(pool.questions, near, strict=True)):
        for removed in (False, True)[: 1 if number % _REMOVED_EVERY else 2]:
            order = [
                int(index)
                for index in np.argsort(-row, kind="stable")
                if not (removed and pool.is_taken(int(index), asked))
            ][:READ]
            hits = [RecallHit(str(index), pool.passages[index], float(row[index])) for index in order]
            found = candidates(asked.text, hits, engine.read(asked.text, [hit.text for hit in hits]))
            yield Read(asked, found, removed, pool.name)
