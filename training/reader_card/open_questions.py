"""Open question data as rows for a reader: `open_questions.py OUT`, with AIOS_DATA.

Of each question its own passage, and the nearest others, by the base's own vectors, that hold none of its
answers. `reader/extractive.jsonl.gz` (English, and languages of Latin letters), `reader/rank.jsonl.gz` (whose
answers are whole passages), and `train/squad_train.jsonl.gz` where it adds questions.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.local_models import resolve_model

_LATIN = {"en", "fr", "pt", "no", "fi", "id"}
_NEGATIVES = 6
_NEAREST = 40
_FOREIGN = 0.04
_EXCHANGED = 0.05
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'-]+(?: (?:of |the )?[A-Z][\w'-]+)*")
_ASKED = re.compile(r"(.+)\n\nQuestion: (.+)\nAnswer:", re.S)
_KINDS = (
    ("squad", r"SQuAD1|SQuAD2|SQuAD-train sample|squad_train"),
    ("reviews", r"SQuADShifts"),
    ("tydi", r"TyDi"),
    ("natural", r"QED"),
    ("qamr", r"QAMR"),
    ("policy", r"PolicyQA"),
    ("stories", r"Fairytale"),
)


def rows_of(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file."""
    with gzip.open(data / name, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def kind_of(row: dict[str, Any]) -> str:
    """The kind of question that a source asks."""
    if row["lang"] != "en":
        return "foreign"
    return next((kind for kind, pattern in _KINDS if re.search(pattern, row["source"])), "other")


def extractive(data: Path) -> list[dict[str, Any]]:
    """Questions with a passage; those of `squad_train` that are not among the others too."""
    found = [row for row in rows_of(data, "reader/extractive.jsonl.gz") if row["lang"] in _LATIN]
    known = {row["question"].strip().lower() for row in found}
    for row in rows_of(data, "train/squad_train.jsonl.gz"):
        found_in = _ASKED.fullmatch(row["prompt"])
        if found_in is None:
            continue
        context, question = found_in[1].strip(), found_in[2].strip()
        start = context.find(row["text"].strip())
        if start < 0 or question.lower() in known:
            continue
        known.add(question.lower())
        answers = [{"text": row["text"].strip(), "start": start}]
        found.append(
            {
                **row,
                "context": context,
                "question": question,
                "answers": answers,
                "lang": "en",
                "source": "squad_train",
            }
        )
    return found


class Nearest:
    """Passages by their vectors."""

    def __init__(self, engine: ArrowEngine, texts: list[str]) -> None:
        self.texts, self._engine = texts, engine
        self._vectors = vectors(engine, texts)

    def of(self, questions: list[str]) -> Iterator[np.ndarray]:
        """Indices of the nearest of each question."""
        asked = vectors(self._engine, questions)
        for at in range(0, len(asked), 512):
            scores = asked[at : at + 512] @ self._vectors.T
            count = min(_NEAREST, scores.shape[1] - 1)
            best = np.argpartition(-scores, count, axis=1)[:, :count]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            yield from np.take_along_axis(best, order, 1)


def vectors(engine: ArrowEngine, texts: list[str]) -> np.ndarray:
    """float32[texts, width]."""
    return np.asarray(engine.encode([text[:1000] for text in texts]), np.float32)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    data, rng = Path(os.environ["AIOS_DATA"]), random.Random(0)
    rows = extractive(data)
    by_language: dict[bool, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_language[row["lang"] == "en"].append(row)
    names = [name for row in by_language[True] for name in _NAME.findall(row["question"])]
    contexts = {
        is_english: list(dict.fromkeys(row["context"] for row in some))
        for is_english, some in by_language.items()
    }
    counts: Counter[str] = Counter()
    with ArrowEngine(resolve_model("minilm")) as engine, gzip.open(options.out, "wt", 5) as out:

        def write(question: str, passages: list[dict[str, Any]], kind: str, row: dict[str, Any]) -> None:
            told = {
                "question": question,
                "passages": passages,
                "kind": kind,
                "source": row["source"],
                "licence": row["licence"],
            }
            out.write(json.dumps(told, ensure_ascii=False) + "\n")
            counts[kind] += 1

        for is_english, some in by_language.items():
            near = Nearest(engine, contexts[is_english])
            for row, found in zip(some, near.of([row["question"] for row in some]), strict=True):
                answers = [answer for answer in row["answers"] if answer["text"].strip()]
                said = [answer["text"].lower() for answer in answers]
                others = [
                    text
                    for i in found
                    if (text := near.texts[i]) != row["context"]
                    and not any(one in text.lower() for one in said)
                ]
                # The hardest, and some that are less so.
                chosen = others[:3] + rng.sample(others[3:], min(len(others[3:]), _NEGATIVES - 3))
                if rng.random() < (_FOREIGN if is_english else 0.3):
                    chosen[-1:] = [rng.choice(contexts[not is_english])]
                own = {
                    "text": row["context"],
                    "answers": [{"start": one["start"], "text": one["text"]} for one in answers],
                }
                negatives = [{"text": text} for text in chosen]
                write(row["question"], [own, *negatives], kind_of(row), row)
                if is_english and rng.random() < _EXCHANGED and (name := _NAME.search(row["question"])):
                    other = rng.choice(names)
                    if other.lower() not in row["context"].lower() and other != name[0]:
                        asked = row["question"].replace(name[0], other)
                        write(asked, [{"text": row["context"]}, *negatives[:3]], "exchanged_open", row)
        # Answers that are whole passages.
        for row in rows_of(data, "reader/rank.jsonl.gz"):
            if row["lang"] != "en" or "derived" in row["source"]:
                continue
            good = [{"text": text, "relevant": True, "block": True} for text in row["positives"][:2]]
            bad = rng.sample(row["negatives"], min(len(row["negatives"]), _NEGATIVES))
            write(row["query"], [*good, *({"text": text} for text in bad)], "rank", row)
    print(dict(counts), sum(counts.values()))


if __name__ == "__main__":
    main()
