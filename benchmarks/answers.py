"""Quality of answers: right, supported, quoted, abstained; the settings of `ask` on the pulled models.

`everyday/` holds notes as people write them, in English and German, with questions in other words, some of
which nothing answers; it was written before the first run. With AIOS_DATA, a sample of SQuAD dev (half A)
over its 913 paragraphs as well. An answer is right when it contains an accepted one, compared as SQuAD does:
in lower case, without punctuation and articles, word by word.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.answers.grounding import Answer
from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import Runtime, open_runtime
from measure import report

EVERYDAY = Path(__file__).resolve().parent / "everyday"
COLUMNS = {
    "questions": "questions that memory can answer",
    "right": "the answer is right",
    "own": "in the model's words",
    "own_right": "of these right",
    "quoted": "in the passages' words",
    "quoted_right": "of these right",
    "abstained": "abstained wrongly",
    "nearest_right": "the nearest sentence alone would be right",
    "surer_half_right": "right in the half of greater confidence",
    "unanswerable": "questions that memory cannot answer",
    "unanswerable_own": "of these answered in the model's words",
    "unanswerable_quoted": "of these answered with a quote",
}


def normalised(text: str) -> str:
    """Words in lower case without articles and marks, a space on either side of each."""
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return f" {' '.join(word for word in words if word not in ('a', 'an', 'the'))} "


def is_right(text: str, accepted: Iterable[str]) -> bool:
    """Whether a text contains one of the accepted answers."""
    return any(normalised(answer) in normalised(text) for answer in accepted)


def judged(rows: Sequence[tuple[Mapping[str, Any], Answer, str]]) -> dict[str, int]:
    """Count what `COLUMNS` names, over questions, their answers, and the nearest sentences."""
    fitting = [row for row in rows if row[0]["answers"]]
    others = [answer for row, answer, _ in rows if not row["answers"]]
    right = {id(answer): is_right(answer.text, row["answers"]) for row, answer, _ in fitting}
    shown = [answer for _, answer, _ in fitting if not answer.abstained]
    own = [answer for answer in shown if not answer.is_quote]
    quoted = [answer for answer in shown if answer.is_quote]
    surer = sorted((answer for _, answer, _ in fitting), key=lambda answer: -answer.confidence)
    told = [answer for answer in others if not answer.abstained]
    return {
        "questions": len(fitting),
        "right": sum(right.values()),
        "own": len(own),
        "own_right": sum(right[id(answer)] for answer in own),
        "quoted": len(quoted),
        "quoted_right": sum(right[id(answer)] for answer in quoted),
        "abstained": len(fitting) - len(shown),
        "nearest_right": sum(is_right(nearest, row["answers"]) for row, _, nearest in fitting),
        "surer_half_right": sum(right[id(answer)] for answer in surer[: len(fitting) // 2]),
        "unanswerable": len(others),
        "unanswerable_own": sum(not answer.is_quote for answer in told),
        "unanswerable_quoted": sum(answer.is_quote for answer in told),
    }


def ask_all(
    runtime: Runtime, questions: Sequence[Mapping[str, Any]], mode: str | None, *, verbose: bool
) -> list[tuple[Mapping[str, Any], Answer, str]]:
    """Ask every question; beside each answer the one sentence nearest to its question."""
    rows = []
    for row in questions:
        answer = runtime.ask(row["question"], mode=mode)
        found = runtime.recall(row["question"], top_k=10, min_similarity=-1.0)
        nearest = runtime.nearest_sentences(found)[0].text
        rows.append((row, answer, nearest))
        if verbose:
            kind = "none" if answer.abstained else "quote" if answer.is_quote else "own"
            mark = "right" if is_right(answer.text, row["answers"]) else "-"
            said = " | ".join([row["question"], answer.text, *row["answers"]])
            print(f"{mark:5} {kind:5} {answer.confidence:.2f} {said}")
    return rows


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, compressed or not."""
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in text.decode("utf-8").split("\n") if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=503, help="draws the questions of SQuAD")
    parser.add_argument("--questions", type=int, default=100, help="of SQuAD")
    parser.add_argument("--mode", choices=("ar", "diffusion"), help="by default as `ask` chooses")
    parser.add_argument("--verbose", action="store_true", help="show every answer")
    options = parser.parse_args()
    figures: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with open_runtime(load_config(overrides={"storage.path": Path(folder) / "everyday"})) as runtime:
            runtime.add([EVERYDAY / "notes"])
            rows = ask_all(
                runtime, lines_of(EVERYDAY / "questions.jsonl"), options.mode, verbose=options.verbose
            )
            for name, language in (("everyday English", "en"), ("everyday German", "de")):
                figures[name] = judged([row for row in rows if row[0]["lang"] == language])
        data = Path(os.environ.get("AIOS_DATA") or "missing") / "squad_dev_a"
        if data.is_dir():
            with open_runtime(load_config(overrides={"storage.path": Path(folder) / "squad"})) as runtime:
                corpus = lines_of(data / "corpus.jsonl.gz")
                runtime.add(texts=[(f"{row['id']}.txt", row["text"].encode()) for row in corpus])
                drawn = random.Random(options.seed).sample(
                    lines_of(data / "questions.jsonl.gz"), options.questions
                )
                name = f"SQuAD dev A, seed {options.seed}"
                figures[name] = judged(ask_all(runtime, drawn, options.mode, verbose=options.verbose))
    width = max(map(len, COLUMNS.values()))
    print(" " * width, *(f"{name:>26}" for name in figures))
    for column, title in COLUMNS.items():
        print(f"{title:{width}}", *(f"{counts[column]:>26}" for counts in figures.values()))
    report(answers=figures)


if __name__ == "__main__":
    main()
