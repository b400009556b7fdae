"""Questions to real documents: `real_documents.py FOLDER [--split test]`, FOLDER being that of `fetch.py`.

All documents go into one store through `open_runtime().add`, and each question is asked as users do, by
`recall` and by `ask`, a follow-up in a conversation. Judged are the right passage among the first 1, 5 and
10, and the answer: right when it holds what is accepted and cites a document that answers; misleading when
it states what is known to be wrong; declined. `real_documents/README.md` says what the questions are and
which may be looked at. Without FOLDER it is named by AIOS_DOCUMENTS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import Runtime, open_runtime
from judging import Said, auroc, calibration_error, flat, is_misleading, is_right
from measure import report

SETS = Path(__file__).resolve().parent / "real_documents"
DEPTHS = (1, 5, 10)
Question = Mapping[str, Any]
Passage = tuple[str, Sequence[str]]
"""The text of a passage, made `flat`, and the documents where it stands."""


@dataclass(frozen=True, slots=True)
class Row:
    """A question, the place of the first passage that answers it, and what was said.

    Attributes:
        question: as it stands in its set.
        rank: from 1; None where no passage answers, or none was looked for.
        said: the answer.
        ms: how long it took.
    """

    question: Question
    rank: int | None
    said: Said
    ms: float


def questions_of(split: str) -> list[dict[str, Any]]:
    """The questions of `tune` or `test`."""
    lines = (SETS / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def is_of(source: str, document: str) -> bool:
    """Whether a source is a document, which is named by its path below the folder of documents."""
    return source == document or source.endswith(f"/{document}")


def answers(question: Question, passage: Passage) -> bool:
    """Whether a passage holds a line that answers, of the document that it must be of."""
    text, sources = passage
    return any(
        any(is_of(source, document) for source in sources) and re.search(line, text)
        for document, line in question["lines"]
    )


def rank_of(question: Question, passages: Iterable[Passage]) -> int | None:
    """Place of the first passage that answers, from 1."""
    ranks = (place for place, passage in enumerate(passages, 1) if answers(question, passage))
    return next(ranks, None)


def cites(question: Question, said: Said) -> bool:
    """Whether an answer cites a document that answers."""
    return any(is_of(source, document) for source in said.sources for document, _ in question["lines"])


def verdict(question: Question, said: Said) -> str:
    """What an answer is worth, in one word or two.

    Of a question that documents answer: `right`, `right elsewhere` (it holds what is accepted, but cites no
    document that answers), `misleading`, `wrong`, `declined`. Of one that none answers: `declined`,
    `misleading` or `answered`.
    """
    groups, misleading = question["answers"], question["misleading"]
    if said.declined:
        return "declined"
    if is_misleading(said.text, groups, misleading):
        return "misleading"
    if not question["lines"]:
        return "answered"
    if not is_right(said.shown, groups):
        return "wrong"
    return "right" if cites(question, said) else "right elsewhere"


def languages_of(question: Question) -> str:
    """The slice of languages that a question belongs to."""
    if question["document_language"] not in (None, question["language"]):
        return "across languages"
    return "English" if question["language"] == "en" else "other languages"


def found_figures(rows: Sequence[Row]) -> dict[str, float]:
    """Share of questions with the right passage among the first; follow-ups cannot be searched alone."""
    asked = [row for row in rows if row.question["lines"] and not row.question["before"]]
    if not asked:
        return {}
    within = {
        f"first {depth}": sum(row.rank is not None and row.rank <= depth for row in asked) for depth in DEPTHS
    }
    return {"questions": len(asked), **{name: round(count / len(asked), 3) for name, count in within.items()}}


def said_figures(rows: Sequence[Row]) -> dict[str, float]:
    """Shares of what answers are worth, apart for questions that documents answer and that they do not."""
    figures: dict[str, float] = {}
    names = ("right", "right elsewhere", "misleading", "wrong", "declined")
    others = ("declined", "misleading", "answered")
    for title, lines, counted in (("answerable", True, names), ("unanswerable", False, others)):
        asked = [row for row in rows if bool(row.question["lines"]) is lines]
        if not asked:
            continue
        verdicts = [verdict(row.question, row.said) for row in asked]
        figures[title] = len(asked)
        for name in counted:
            figures[f"{name} of {title}"] = round(verdicts.count(name) / len(asked), 3)
    return figures


def confidence_figures(rows: Sequence[Row]) -> dict[str, float | None]:
    """Whether the confidence of what was answered tells right from wrong, and how far it is off."""
    answered = [row for row in rows if not row.said.declined]
    scores = [row.said.confidence for row in answered]
    right = [verdict(row.question, row.said).startswith("right") for row in answered]
    figures = {"auroc": auroc(scores, right), "ece": calibration_error(scores, right)}
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


def slices(rows: Sequence[Row], key: Callable[[Question], str]) -> dict[str, list[Row]]:
    """Rows by something of their questions, sorted by its name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row.question), []).append(row)
    return dict(sorted(found.items()))


def figures_of(rows: Sequence[Row]) -> dict[str, Any]:
    """All figures, over all questions, by languages and by kind."""

    def both(some: Sequence[Row]) -> dict[str, float]:
        return {**found_figures(some), **said_figures(some)}

    return {
        "all": both(rows),
        "languages": {name: both(some) for name, some in slices(rows, languages_of).items()},
        "kinds": {name: both(some) for name, some in slices(rows, lambda row: row["kind"]).items()},
        "confidence": confidence_figures(rows),
        "ask_ms_median": round(statistics.median(row.ms for row in rows), 1),
    }


def ask(runtime: Runtime, question: Question) -> Said:
    """The answer to a question; to a follow-up, in a conversation that had the turns before it."""
    if not question["before"]:
        return Said.of(runtime.ask(question["question"]))
    from ai_os_diffusion.runtime.conversation import Conversation, Reply

    conversation = Conversation(runtime)
    for message in [*question["before"], question["question"]]:
        reply = next(event for event in conversation.reply(message) if isinstance(event, Reply))
    return Said(reply.text, reply.text, (), False) if reply.answer is None else Said.of(reply.answer)


def row_of(runtime: Runtime, question: Question) -> Row:
    """Search and ask one question."""
    rank = None
    if question["lines"] and not question["before"]:
        found = runtime.recall(question["question"], top_k=max(DEPTHS), min_similarity=-1.0)
        hits = ((flat(hit.text), [hit.source, *(place.source for place in hit.also)]) for hit in found.hits)
        rank = rank_of(question, hits)
    start = time.perf_counter()
    said = ask(runtime, question)
    return Row(question, rank, said, 1e3 * (time.perf_counter() - start))


def passages_of(runtime: Runtime) -> Iterator[Passage]:
    """All passages of the store."""
    for memory in runtime.memories.iter():
        metadata = memory["metadata"]
        yield flat(memory["content"]), metadata.get("sources") or [metadata["source"]]


def out_of_reach(questions: Sequence[Question], passages: Iterable[Passage]) -> list[str]:
    """Questions whose lines stand in no passage: what reading lost, no search can find."""
    left = {question["id"]: question for question in questions if question["lines"]}
    for passage in passages:
        for reached in [name for name, question in left.items() if answers(question, passage)]:
            del left[reached]
    return sorted(left)


def table(figures: Mapping[str, Any]) -> str:
    """The shares as a table: a line for all questions, for each slice of languages, and for each kind."""
    slices_of = {"all": figures["all"], **figures["languages"], **figures["kinds"]}
    columns = {
        "n": ("answerable", "unanswerable"),
        **{f"r@{depth}": (f"first {depth}",) for depth in DEPTHS},
        "right": ("right of answerable",),
        "mislead": ("misleading of answerable",),
        "declined wrongly": ("declined of answerable",),
        "declined rightly": ("declined of unanswerable",),
    }
    lines = [f"{'':20}" + "".join(f"{name:>18}" for name in columns)]
    for title, found in slices_of.items():
        cells = ("+".join(str(found[name]) for name in names if name in found) for names in columns.values())
        lines.append(f"{title:20}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


@contextlib.contextmanager
def _store(kept: Path | None) -> Iterator[Path]:
    """The folder of the store: one that stays, or one for this run."""
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "store"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("AIOS_DOCUMENTS", "missing"))
    parser.add_argument("--split", choices=("tune", "test"), default="test")
    parser.add_argument("--store", type=Path, help="keep the store here, and add to it what is new")
    parser.add_argument("--verbose", action="store_true", help="show every answer; of `tune` alone")
    options = parser.parse_args()
    if options.verbose and options.split == "test":
        parser.error("single answers of the test split are not to be read; --verbose goes with --split tune")
    documents = options.folder / "documents"
    if not documents.is_dir():
        print("skipped: there are no documents; fetch them with real_documents/fetch.py and name the folder")
        print(json.dumps({"benchmark": "real_documents", "skipped": "no documents"}))
        return
    questions = questions_of(options.split)
    with contextlib.ExitStack() as opened:
        settings = {"storage.path": opened.enter_context(_store(options.store))}
        runtime = opened.enter_context(open_runtime(load_config(overrides=settings)))
        runtime.add([documents])
        passages, unreached = runtime.memories.count(), out_of_reach(questions, passages_of(runtime))
        rows = []
        for question in questions:
            rows.append(row_of(runtime, question))
            if options.verbose:
                row = rows[-1]
                print(f"{row.rank or '-':>2} {verdict(question, row.said):15} {question['question']}")
                print(f"{'':18} {flat(row.said.text)[:200]}")
    figures = figures_of(rows)
    print(table(figures))
    report(
        split=options.split,
        documents=sum(file.is_file() for file in documents.rglob("*")),
        passages=passages,
        lines_in_no_passage=len(unreached),
        **figures,
    )


if __name__ == "__main__":
    main()
