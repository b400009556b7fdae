"""Questions to passages by a language model: `ask_documents.py MODEL PASSAGES OUT NAME [--seconds N]`.

MODEL is a folder of `unpack_model.py`, PASSAGES JSON Lines with `id`, `text` and `language`. OUT gets
`NAME-00.jsonl.gz` …: questions with their answers, as they stand in the passage. What was
begun is gone on with.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from generation import Replies
from parts import Parts, lines_of
from prompts import Asked, Prompts
from qwen2 import Prefix, Qwen2
from vocabulary import Vocabulary

_REPLY_TOKENS = 160
_LONGEST_PROMPT = 640
_POOL = 32
"""Batches that are sorted by manner and length together."""


@dataclass(frozen=True, slots=True)
class Job:
    """A passage that is to be asked in a manner.

    Attributes:
        passage: its row.
        manner: how.
        asked_in: code of a language.
        tokens: of the prompt, without what all prompts of the manner begin with.
    """

    passage: dict[str, Any]
    manner: str
    asked_in: str
    tokens: list[int]

    def row(self, asked: Asked, likely: float) -> dict[str, Any]:
        """A question as it is written."""
        return {
            "passage": self.passage["id"],
            "question": asked.question,
            "answer": asked.answer,
            "start": asked.start,
            "form": self.manner,
            "language": self.asked_in,
            "overlap": asked.overlap,
            "logp": round(likely, 3),
        }


def name_of(passage: dict[str, Any]) -> str:
    """Which document, as people would call it."""
    document = (
        passage["document"].rpartition("/")[2].rpartition("__")[2].removesuffix(".gz").removesuffix(".txt")
    )
    return f"{document} of {passage['package'].removeprefix('pypi:')}"


def jobs_of(
    passages: Sequence[dict[str, Any]], prompts: Prompts, vocabulary: Vocabulary, turn: int, seed: int
) -> list[Job]:
    """What is asked of some passages in a turn; long ones are left out."""
    drawn = []
    for passage in passages:
        rng = random.Random(f"{seed} {passage['id']}")
        manner = prompts.order(rng)[turn]
        drawn.append((manner, prompts.asked_in(manner, passage["language"], rng)))
    texts = [
        "user\n" + prompts.prompt(name_of(passage), passage["text"], asked_in)
        for passage, (_, asked_in) in zip(passages, drawn, strict=True)
    ]
    tail = [vocabulary.end, *vocabulary.tokens("\n"), *vocabulary.opened("assistant")]
    return [
        Job(passage, manner, asked_in, [vocabulary.begin, *told, *tail])
        for passage, (manner, asked_in), told in zip(passages, drawn, vocabulary.many(texts), strict=True)
        if len(told) + len(tail) < _LONGEST_PROMPT
    ]


def batches(
    passages: Sequence[dict[str, Any]],
    prompts: Prompts,
    vocabulary: Vocabulary,
    turns: int,
    rows: int,
    seed: int,
) -> Iterator[list[Job]]:
    """Prompts of one manner and of about equal length together.

    Whenever it is stopped, the passages of about a prefix were asked. All are asked in one manner before any
    is asked in a second.
    """
    for turn in range(min(turns, len(prompts.manners))):
        for first in range(0, len(passages), rows * _POOL):
            jobs = jobs_of(passages[first : first + rows * _POOL], prompts, vocabulary, turn, seed)
            parts = []
            for manner in prompts.manners:
                alike = sorted((job for job in jobs if job.manner == manner), key=lambda job: len(job.tokens))
                parts += [alike[at : at + rows] for at in range(0, len(alike), rows)]
            random.Random(seed + first).shuffle(parts)
            yield from parts


def beginning(manner: str, prompts: Prompts, vocabulary: Vocabulary) -> list[int]:
    """The tokens that all prompts of a manner begin with: what is told, and the examples."""
    tokens = vocabulary.turn("system", prompts.system(manner))
    for told, replied in prompts.shown(manner):
        tokens += vocabulary.turn("user", told) + vocabulary.turn("assistant", replied)
    return tokens


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("passages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no batch is begun after these")
    parser.add_argument("--most", type=int, help="passages")
    parser.add_argument("--turns", type=int, default=6, help="manners in which each passage is asked at most")
    parser.add_argument("--rows", type=int, default=768, help="passages at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    out = Parts(options.out, options.name)
    done = {(line["passage"], line["form"]) for line in out.rows()}
    passages = list(lines_of(options.passages))[: options.most]
    prompts = Prompts(Path(__file__).with_name("asking.toml"))
    vocabulary = Vocabulary(options.model)
    model = Qwen2(options.model, torch.device(options.device))

    @cache
    def prefix(manner: str) -> Prefix:
        return model.prefix(beginning(manner, prompts, vocabulary))

    replies = Replies(
        model,
        vocabulary.end,
        rows=min(options.rows, max(1, len(passages))),
        slots=_LONGEST_PROMPT + _REPLY_TOKENS,
        seed=options.seed,
        is_eager=options.eager,
    )
    print(len(passages), "passages", flush=True)
    begun, seen, count = time.monotonic(), set(), 0

    def keep(jobs: list[Job], said: list[tuple[list[int], float]]) -> None:
        rows = []
        for job, (reply, likely) in zip(jobs, said, strict=True):
            for asked in prompts.read(vocabulary.text(reply), job.passage["text"]):
                if asked.question.lower() not in seen:
                    seen.add(asked.question.lower())
                    rows.append(job.row(asked, likely))
        out.write(rows)
        print(count, "prompts", len(seen), "questions", round(time.monotonic() - begun, 1), "s", flush=True)

    # What is written is looked through while the next is written.
    with ThreadPoolExecutor(1) as behind:
        kept: Future[None] | None = None
        for jobs in batches(passages, prompts, vocabulary, options.turns, options.rows, options.seed):
            if time.monotonic() - begun > options.seconds:
                break
            jobs = [job for job in jobs if (job.passage["id"], job.manner) not in done]
            if not jobs:
                continue
            said = replies.sample(prefix(jobs[0].manner), [job.tokens for job in jobs], _REPLY_TOKENS)
            if kept is not None:
                kept.result()
            count += len(jobs)
            kept = behind.submit(keep, jobs, said)
        if kept is not None:
            kept.result()


if __name__ == "__main__":
    main()
