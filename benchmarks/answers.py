"""Quality of answers: right, shown, abstained; the settings of `ask` on the pulled models.

`everyday/` holds notes as people write them, in English and German, with questions in other words, some of
which nothing answers; it was written before the first run. With AIOS_DATA, a sample of SQuAD dev (half A)
over its 913 paragraphs as well. An answer is right when it contains an accepted one, compared as SQuAD does:
in lower case, without punctuation and articles, word by word. `--ways` compares how `ask` answered before
with how it does, each part switched off, in one run, question by question. Every fourth of SQuAD is asked
again with its article taken out of what was found.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.answers.answer import Answer
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import Runtime, open_runtime
from measure import report
from ways import WAYS, answered_by, found_by

EVERYDAY = Path(__file__).resolve().parent / "everyday"
COLUMNS = {
    "questions": "questions that memory can answer",
    "right": "the answer is right",
    "shown": "the right answer is in what is shown first",
    "written": "in a model's words",
    "written_right": "of these right",
    "abstained": "abstained wrongly",
    "surer_half_right": "right in the half of greater confidence",
    "unanswerable": "questions that memory cannot answer",
    "unanswerable_answered": "of these answered",
}


def normalised(text: str) -> str:
    """Words in lower case without articles and marks, a space on either side of each."""
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return f" {' '.join(word for word in words if word not in ('a', 'an', 'the'))} "


def is_right(text: str, accepted: Iterable[str]) -> bool:
    """Whether a text contains one of the accepted answers."""
    return any(normalised(answer) in normalised(text) for answer in accepted)


def judged(rows: Sequence[tuple[Mapping[str, Any], Answer]]) -> dict[str, int]:
    """Count what `COLUMNS` names, over questions and their answers."""
    fitting = [row for row in rows if row[0]["answers"]]
    others = [answer for row, answer in rows if not row["answers"]]
    right = {id(answer): is_right(answer.text, row["answers"]) for row, answer in fitting}
    written = [answer for _, answer in fitting if not answer.abstained and not answer.is_quote]
    surer = sorted((answer for _, answer in fitting), key=lambda answer: -(answer.confidence or 0.0))
    return {
        "questions": len(fitting),
        "right": sum(right.values()),
        "shown": sum(
            right[id(answer)] or is_right("".join(one.quote for one in answer.citations[:1]), row["answers"])
            for row, answer in fitting
        ),
        "written": len(written),
        "written_right": sum(right[id(answer)] for answer in written),
        "abstained": sum(answer.abstained for _, answer in fitting),
        "surer_half_right": sum(right[id(answer)] for answer in surer[: len(fitting) // 2]),
        "unanswerable": len(others),
        "unanswerable_answered": sum(not answer.abstained for answer in others),
    }


def ask_all(
    runtime: Runtime, questions: Sequence[Mapping[str, Any]], mode: str | None, *, verbose: bool
) -> list[tuple[Mapping[str, Any], Answer]]:
    """Ask every question."""
    rows = []
    for row in questions:
        answer = runtime.ask(row["question"], mode=mode)
        rows.append((row, answer))
        if verbose:
            mark = "right" if is_right(answer.text, row["answers"]) else "-"
            sure = "" if answer.confidence is None else f"{answer.confidence:.2f}"
            said = " | ".join([row["question"], answer.text, *row["answers"]])
            print(f"{mark:5} {answer.reason or answer.mode:13} {sure} {said}")
    return rows


def passage_place(row: Mapping[str, Any], hits: Iterable[RecallHit]) -> int | None:
    """Place of the first passage that is of the question's source and holds an accepted answer, from 1."""
    source = row.get("source") or f"{row['paragraph_id']}.txt"
    places = (
        place
        for place, hit in enumerate(hits, 1)
        if Path(hit.source).name == source and is_right(hit.text, row["answers"])
    )
    return next(places, None)


def compare(runtime: Runtime, questions: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Ask every question in every way.

    Args:
        runtime: answers.
        questions: one of SQuAD names its article; every fourth of these is asked without it as well.
    """
    counts: dict[str, Counter[str]] = {title: Counter() for title in WAYS}
    for number, row in enumerate(questions):
        for title, way in WAYS.items():
            start, own = time.perf_counter(), counts[title]
            found = found_by(runtime, row["question"], way)
            answer = answered_by(runtime, found, way)
            own["seconds"] += time.perf_counter() - start
            if not row["answers"]:
                own["none"] += 1
                own["none_answered"] += not answer.abstained
                continue
            place = passage_place(row, found.hits)
            own["questions"] += 1
            own["first"] += place == 1
            own["first five"] += place is not None and place <= 5
            own["answered"] += not answer.abstained
            own["right"] += is_right(answer.text, row["answers"])
            shown = answer.citations[0].quote if answer.citations else ""
            own["shown"] += is_right(f"{answer.text} {shown}", row["answers"])
            if "article" in row and not number % 4:
                rest = tuple(hit for hit in found.hits if hit.source not in row["article"])
                own["none"] += 1
                own["none_answered"] += not answered_by(runtime, replace(found, hits=rest), way).abstained
    return {title: _shares(own, len(questions)) for title, own in counts.items()}


def _shares(own: Mapping[str, float], asked: int) -> dict[str, float]:
    """Counts as shares, those of questions that nothing answers apart."""
    names = ("first", "first five", "answered", "right", "shown")
    told = {name: round(own[name] / max(1, own["questions"]), 3) for name in names}
    return {
        "questions": own["questions"],
        **told,
        "right of answered": round(own["right"] / max(1, own["answered"]), 3),
        "none": own["none"],
        "none answered": round(own["none_answered"] / max(1, own["none"]), 3),
        "ms": round(1e3 * own["seconds"] / asked, 1),
    }


def show_ways(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print a table for each set of questions, a row for each way."""
    for name, ways in figures.items():
        columns = list(next(iter(ways.values())))
        print(f"\n{name}\n{'':30}", *(f"{column:>18}" for column in columns))
        for title, told in ways.items():
            print(f"{title:30}", *(f"{told[column]:>18}" for column in columns))


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, compressed or not."""
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in text.decode("utf-8").split("\n") if line]


def with_articles(
    questions: Iterable[Mapping[str, Any]], corpus: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Questions of SQuAD with `article`: the names of all paragraphs of theirs."""
    title_of = {row["id"]: row["title"] for row in corpus}
    articles: dict[str, set[str]] = {}
    for name, title in title_of.items():
        articles.setdefault(title, set()).add(f"{name}.txt")
    return [{**row, "article": articles[title_of[row["paragraph_id"]]]} for row in questions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=503, help="draws the questions of SQuAD")
    parser.add_argument("--questions", type=int, default=100, help="of SQuAD")
    parser.add_argument("--mode", choices=("ar", "diffusion"), help="by default as `ask` chooses")
    parser.add_argument("--reader", help="a reader card, or none; by default the encoder's own")
    parser.add_argument("--ways", action="store_true", help="compare ways of answering, part by part")
    parser.add_argument("--verbose", action="store_true", help="show every answer")
    options = parser.parse_args()
    compared: dict[str, dict[str, dict[str, float]]] = {}
    figures: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def settings(store: str) -> dict[str, Any]:
            return {"storage.path": Path(folder) / store, "model.reader": options.reader}

        with open_runtime(load_config(overrides=settings("everyday"))) as runtime:
            runtime.add([EVERYDAY / "notes"])
            everyday = lines_of(EVERYDAY / "questions.jsonl")
            if options.ways:
                compared["everyday"] = compare(runtime, everyday)
            else:
                rows = ask_all(runtime, everyday, options.mode, verbose=options.verbose)
                for name, language in (("everyday English", "en"), ("everyday German", "de")):
                    figures[name] = judged([row for row in rows if row[0]["lang"] == language])
        data = Path(os.environ.get("AIOS_DATA") or "missing") / "squad_dev_a"
        if data.is_dir():
            with open_runtime(load_config(overrides=settings("squad"))) as runtime:
                corpus = lines_of(data / "corpus.jsonl.gz")
                runtime.add(texts=[(f"{row['id']}.txt", row["text"].encode()) for row in corpus])
                drawn = random.Random(options.seed).sample(
                    lines_of(data / "questions.jsonl.gz"), options.questions
                )
                name = f"SQuAD dev A, seed {options.seed}"
                if options.ways:
                    compared[name] = compare(runtime, with_articles(drawn, corpus))
                else:
                    figures[name] = judged(ask_all(runtime, drawn, options.mode, verbose=options.verbose))
    if options.ways:
        show_ways(compared)
        report(ways=compared)
        return
    width = max(map(len, COLUMNS.values()))
    print(" " * width, *(f"{name:>26}" for name in figures))
    for column, title in COLUMNS.items():
        print(f"{title:{width}}", *(f"{counts[column]:>26}" for counts in figures.values()))
    report(answers=figures)


if __name__ == "__main__":
    main()
