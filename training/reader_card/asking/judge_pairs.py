"""Whether passages answer questions: `judge_pairs.py MODEL ROWS OUT NAME [--passages PASSAGES]`.

ROWS are JSON Lines, files or parts by a pattern, in one of two forms: `id`, `question` and `passages` (to
rank, or to find negatives that answer), or what `ask_documents.py` wrote, whose passages are in PASSAGES. OUT
gets `NAME-00.jsonl.gz` …: of the first `id`, `yes` and `likelihood` as lists; of the second a row a question.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from judge import Judge
from parts import Parts, lines_of
from qwen2 import Qwen2
from vocabulary import Vocabulary

_GROUPS = 2048
_QUESTIONS = 100


def judged_lists(judge: Judge, rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Of questions with their passages."""
    for first in range(0, len(rows), _QUESTIONS):
        some = rows[first : first + _QUESTIONS]
        found = iter(judge.judge([(text, [row["question"]]) for row in some for text in row["passages"]]))
        out = []
        for row in some:
            judged = [next(found)[0] for _ in row["passages"]]
            out.append(
                {
                    "id": row["id"],
                    "yes": [one.yes for one in judged],
                    "likelihood": [one.likelihood for one in judged],
                }
            )
        yield out


def judged_questions(
    judge: Judge, rows: list[dict[str, Any]], texts: dict[str, str]
) -> Iterator[list[dict[str, Any]]]:
    """Of questions that were written, each on its own passage."""
    asked: dict[str, list[str]] = {}
    for row in rows:
        asked.setdefault(row["passage"], []).append(row["question"])
    groups = list(asked.items())
    for first in range(0, len(groups), _GROUPS):
        some = groups[first : first + _GROUPS]
        found = judge.judge([(texts[passage], questions) for passage, questions in some])
        yield [
            {"passage": passage, "question": question, "yes": one.yes, "likelihood": one.likelihood}
            for (passage, questions), judged in zip(some, found, strict=True)
            for question, one in zip(questions, judged, strict=True)
        ]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows")
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--passages", type=Path)
    parser.add_argument("--most", type=int, help="rows")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no batch is begun after these")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    given = Path(options.rows)
    rows = [row for path in sorted(given.parent.glob(given.name)) for row in lines_of(path)][: options.most]
    out = Parts(options.out, options.name)
    done = {(row.get("id"), row.get("passage"), row.get("question")) for row in out.rows()}
    if options.passages:
        rows = [row for row in rows if (None, row["passage"], row["question"]) not in done]
    else:
        rows = [row for row in rows if (row["id"], None, None) not in done]
    vocabulary = Vocabulary(options.model)
    model = Qwen2(options.model, torch.device(options.device))
    judge = Judge(model, vocabulary, Path(__file__).with_name("asking.toml"))
    print(len(rows), "rows", flush=True)
    if options.passages:
        texts = {passage["id"]: passage["text"] for passage in lines_of(options.passages)}
        made = judged_questions(judge, rows, texts)
    else:
        made = judged_lists(judge, rows)
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < options.seconds and (some := next(made, None)) is not None:
        out.write(some)
        count += len(some)
        print(count, "judged", round(time.monotonic() - begun, 1), "s", flush=True)


if __name__ == "__main__":
    main()
