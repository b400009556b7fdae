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
from pathlib import Path
from typing import Any

import torch
from generation import Replies
from parts import Parts, lines_of
from prompts import Asked, Prompts, Wanted
from qwen2 import Qwen2
from vocabulary import Vocabulary

_REPLY_TOKENS = 224
_LONGEST_PROMPT = 640
_POOL = 8
"""Batches that are sorted by length together."""

Job = tuple[dict[str, Any], Wanted, list[int]]


def batches(
    passages: Sequence[dict[str, Any]], prompts: Prompts, vocabulary: Vocabulary, rows: int, seed: int
) -> Iterator[list[Job]]:
    """Prompts of about equal length together; of any prefix of the passages, all are done before the next."""
    for first in range(0, len(passages), rows * _POOL):
        pool = passages[first : first + rows * _POOL]
        wanted = [
            prompts.draw(passage["language"], random.Random(f"{seed} {passage['id']}")) for passage in pool
        ]
        texts = [
            prompts.prompt(name_of(passage), passage["text"], passage["language"], one)
            for passage, one in zip(pool, wanted, strict=True)
        ]
        tokens = [
            [
                vocabulary.begin,
                *told,
                vocabulary.end,
                *vocabulary.tokens("\n"),
                *vocabulary.opened("assistant"),
            ]
            for told in vocabulary.many([f"user\n{text}" for text in texts])
        ]
        jobs = [job for job in zip(pool, wanted, tokens, strict=True) if len(job[2]) <= _LONGEST_PROMPT]
        jobs.sort(key=lambda job: len(job[2]))
        parts = [jobs[at : at + rows] for at in range(0, len(jobs), rows)]
        random.Random(seed + first).shuffle(parts)
        yield from parts


def name_of(passage: dict[str, Any]) -> str:
    """Which document, as people would call it."""
    document = passage["document"].rpartition("/")[2].rpartition("__")[2].removesuffix(".gz")
    return f"{document} of {passage['package'].removeprefix('pypi:')}"


def beginning(prompts: Prompts, vocabulary: Vocabulary) -> list[int]:
    """The tokens that all prompts begin with: what is told, and the examples."""
    tokens = vocabulary.turn("system", prompts.system)
    for told, replied in prompts.shown():
        tokens += vocabulary.turn("user", told) + vocabulary.turn("assistant", replied)
    return tokens


def row(passage: dict[str, Any], wanted: Wanted, asked: Asked, likely: float) -> dict[str, Any]:
    """A question as it is written."""
    return {
        "passage": passage["id"],
        "question": asked.question,
        "answer": asked.answer,
        "start": asked.start,
        "kind": asked.kind,
        "form": asked.form,
        "language": wanted.asked_in,
        "overlap": asked.overlap,
        "logp": round(likely, 3),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("passages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no batch is begun after these")
    parser.add_argument("--most", type=int, help="passages")
    parser.add_argument("--rows", type=int, default=768, help="passages at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    out = Parts(options.out, options.name)
    done = {line["passage"] for line in out.rows()}
    passages = [one for one in list(lines_of(options.passages))[: options.most] if one["id"] not in done]
    prompts = Prompts(Path(__file__).with_name("asking.toml"))
    vocabulary = Vocabulary(options.model)
    model = Qwen2(options.model, torch.device(options.device))
    prefix = model.prefix(beginning(prompts, vocabulary))
    replies = Replies(
        model,
        prefix,
        vocabulary.end,
        rows=min(options.rows, max(1, len(passages))),
        slots=_LONGEST_PROMPT + _REPLY_TOKENS,
        seed=options.seed,
        is_eager=options.eager,
    )
    print(len(passages), "passages;", prefix.length, "tokens before each", flush=True)
    begun, seen, count = time.monotonic(), set(), 0

    def keep(jobs: list[Job], said: list[tuple[list[int], float]]) -> None:
        rows = []
        for (passage, wanted, _), (reply, likely) in zip(jobs, said, strict=True):
            for asked in prompts.read(vocabulary.text(reply), passage["text"], wanted):
                if asked.question.lower() not in seen:
                    seen.add(asked.question.lower())
                    rows.append(row(passage, wanted, asked, likely))
        out.write(rows)
        print(count, "passages", len(seen), "questions", round(time.monotonic() - begun, 1), "s", flush=True)

    # What is written is looked through while the next is written.
    with ThreadPoolExecutor(1) as behind:
        kept: Future[None] | None = None
        for jobs in batches(passages, prompts, vocabulary, options.rows, options.seed):
            if time.monotonic() - begun > options.seconds:
                break
            said = replies.sample([tokens for *_, tokens in jobs], _REPLY_TOKENS)
            if kept is not None:
                kept.result()
            count += len(jobs)
            kept = behind.submit(keep, jobs, said)
        if kept is not None:
            kept.result()


if __name__ == "__main__":
    main()
