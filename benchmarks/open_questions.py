"""Questions to many passages at once: what a reader finds in the nearest ones, and whether it is right.

An answer is right when its F1 with an accepted one, as SQuAD has it, is one half or more: exact match depends
on how many people were asked for accepted ones, and data differ in that.
"""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.answers.candidates import Candidate, candidates
from ai_os_diffusion.answers.fusion import Fusion
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.answer_match import plain, word_f1
from squad import paragraphs

READ, FUSED = 10, 30
"""Passages that are read, and that each search finds, as `ask` does."""

_RIGHT_F1 = 0.5
_REMOVED_EVERY = 4
"""One question in so many is asked a second time, with all that could answer it taken away."""
_NEIGHBOURS = 12
"""Passages before and behind that are of the same document, where the data do not name it."""
_PASSAGES = 700
_PASSAGES_EACH = 12
"""Passages of a source at most, and for each question of it."""

_LONGEST = 2500

_PAIRS_OF_A_KIND = 15
_MOST_PAIRED = 9000


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


def row_pools(
    rows: Iterable[dict[str, Any]], count: int, seed: int, is_taken: Callable[[str], bool] = "en".__eq__
) -> Iterator[Pool]:
    """Questions of rows as `reader/extractive.jsonl.gz` has them, each to passages of its own source.

    Args:
        rows: those with answers are taken.
        count: questions in all; of every source as many, as far as it has them.
        seed: draws passages and questions.
        is_taken: of which languages rows are taken.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if is_taken(row["lang"]) and row["answers"] and len(row["context"]) <= _LONGEST:
            by_source.setdefault(f"{row['source']} {row['lang']}", []).append(row)
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


def rank_pools(rows: Iterable[dict[str, Any]], count: int, seed: int) -> Iterator[Pool]:
    """Questions of rows as `reader/rank.jsonl.gz` has them, to their passages and the hard negatives of all.

    Args:
        rows: English ones.
        count: questions in all; of every source as many, as far as it has them.
        seed: draws questions.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["lang"] == "en" and len(row["positives"]) == 1:
            by_source.setdefault(row["source"], []).append(row)
    rng, left = random.Random(seed), count
    sources = sorted(by_source.items(), key=lambda pair: len(pair[1]))
    for number, (source, own) in enumerate(sources):
        drawn = rng.sample(own, min(left // (len(sources) - number), len(own)))
        left -= len(drawn)
        passages = list(
            dict.fromkeys(text for row in drawn for text in (row["positives"][0], *row["negatives"]))
        )
        place = {text: index for index, text in enumerate(passages)}
        questions = [Asked(row["query"], (), place[row["positives"][0]]) for row in drawn]
        yield Pool(source, passages, range(len(passages)), questions)


def pairs_pool(file: Path, seed: int) -> Pool:
    """Questions of rows as `training/reader_card` makes them, of each kind some, to the passages of all.

    Args:
        file: .jsonl.gz; rows whose first passage answers are taken.
        seed: draws questions and passages.
    """
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rng, kinds = random.Random(seed), {}
    for row in rows:
        if row["passages"][0].get("relevant"):
            kinds.setdefault(row["kind"], []).append(row)
    drawn = [row for own in kinds.values() for row in rng.sample(own, min(_PAIRS_OF_A_KIND, len(own)))]
    texts = [one["text"] for row in drawn for one in row["passages"]]
    others = [one["text"] for row in rows for one in row["passages"]]
    passages = list(dict.fromkeys([*texts, *rng.sample(others, len(others))]))[:_MOST_PAIRED]
    place = {text: index for index, text in enumerate(passages)}
    asked = [
        Asked(
            row["question"],
            tuple(one["text"] for one in row["passages"][0].get("answers", ())),
            place[row["passages"][0]["text"]],
        )
        for row in drawn
    ]
    return Pool("pairs", passages, range(len(passages)), asked)


def read_all(engine: Any, pool: Pool, judged_by: type[Read] = Read) -> Iterator[Read]:
    """Ask every question as `ask` does, and some a second time without what could answer them.

    Args:
        engine: an encoder with a reader attached.
        pool: what is asked.
        judged_by: says what is right.
    """
    with tempfile.TemporaryDirectory() as folder, stored(engine, pool, Path(folder)) as store:
        vectors = engine.encode_query([asked.text for asked in pool.questions])
        for number, (asked, vector) in enumerate(zip(pool.questions, vectors, strict=True)):
            for removed in (False, True)[: 1 if number % _REMOVED_EVERY else 2]:
                taken = {
                    index for index in range(len(pool.passages)) if removed and pool.is_taken(index, asked)
                }
                hits = [
                    RecallHit(f"{index}", pool.passages[index], similarity)
                    for index, similarity in found(engine, store, asked.text, vector, taken)[:READ]
                ]
                readings = engine.read(asked.text, [hit.text for hit in hits])
                yield judged_by(asked, candidates(asked.text, hits, readings), removed, pool.name)


@contextmanager
def stored(engine: Any, pool: Pool, folder: Path) -> Iterator[ArrowStorage]:
    """A store of the passages of a pool, each under its index."""
    with ArrowStorage(folder / "store") as store:
        vectors = engine.encode_document(list(pool.passages))
        store.save_many(
            {"memory_id": f"{index}", "content": text, "embedding": vector}
            for index, (text, vector) in enumerate(zip(pool.passages, vectors, strict=True))
        )
        yield store


def found(
    engine: Any, store: ArrowStorage, question: str, vector: NDArray[np.float32], taken: Collection[int] = ()
) -> list[tuple[int, float]]:
    """Passages as `recall` orders them, by index, with their cosine; some taken away."""
    all_found = [
        (int(one.memory["memory_id"]), one.similarity, one.bm25)
        for one in store.query(vector, FUSED + len(taken), text=question)
    ]
    there = [row for row in all_found if row[0] not in taken]
    near = sorted(there, key=lambda row: -row[1])[:FUSED]
    told = sorted((row for row in there if row[2] > 0), key=lambda row: -row[2])[:FUSED]
    both = list(dict.fromkeys([*near, *told]))
    fusion, broken = (
        Fusion.of(engine.metadata.source["weights_sha256"]),
        engine.tokenizer.broken_share(question),
    )
    order = fusion.order([row[1] for row in both], [row[2] for row in both], broken)
    return [both[index][:2] for index in order]
