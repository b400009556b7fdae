"""The open data that examples are drawn from: questions about passages, entailment, tasks and text."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MAX_ANSWER_CHARS = 160
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(0-9])")

# How often a source is drawn, beside its number of rows: natural questions more often than formulaic ones.
_SOURCE_WEIGHT = {
    "SQuAD1.1-train": 2.2,
    "SQuAD-train": 2.2,
    "SQuADShifts": 1.2,
    "TyDiQA-GoldP": 1.2,
    "QED": 1.2,
} | {
    "QAMR": 0.12,
    "PolicyQA": 0.25,
    "AfriQA": 0.5,
    "COVID-QA": 0.3,
    "SleepQA": 0.4,
    "written": 1.2,
}
_TEXT_WEIGHT = {"novels": 0.25, "sgd_dialogues": 0.4}
_TASK_WEIGHT = {
    "natural_instructions": 0.5,
    "open_trivia_qa": 0.05,
    "clinc150": 0.3,
    "chatterbot": 0.5,
    "squad_train": 0.0,
}
# Template-like sets teach their template.
_LEFT_OUT_ENTAILMENT = ("MED", "HELP", "Breaking_NLI")


def rows(path: Path) -> Iterator[dict]:
    """The JSON objects of a gzipped file, one a line."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def is_held_out(text: str) -> bool:
    """Whether a text is kept for judging: one in forty, by its hash."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 40 == 0


def _is_near(row: dict) -> bool:
    """Whether a claim speaks of what its premise does: what another scene shows does not contradict."""
    stems = [word[:4] for word in re.findall(r"\w{4,}", row["hypothesis"].lower())]
    known = {word[:4] for word in re.findall(r"\w{4,}", row["premise"].lower())}
    return 2 * sum(stem in known for stem in stems) >= len(stems)


def sentences(text: str) -> list[str]:
    """Cut English text at its sentences' ends."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]


class OpenData:
    """What the files hold, with the weights by which it is drawn.

    Args:
        folder: as for `Examples`.
        held_out: the contexts kept for judging, and only them.
    """

    def __init__(self, folder: Path, *, held_out: bool) -> None:
        self.by_source: dict[str, list[dict]] = defaultdict(list)
        self.questions_of: dict[str, list[dict]] = defaultdict(list)
        self._read_questions(folder / "reader" / "extractive.jsonl.gz", held_out)
        # What `questions.py` wrote, where it is there; cards are judged by questions of people alone.
        written = folder / "reader" / "written.jsonl.gz"
        if written.exists() and not held_out:
            self._read_questions(written, held_out)
        self.sources = [
            name for name, found in self.by_source.items() if any(row["answers"] for row in found)
        ]
        self.source_weights = [
            len(self.by_source[name]) * _SOURCE_WEIGHT.get(name, 1.0) for name in self.sources
        ]
        self.contexts = list(self.questions_of)
        self.unanswerable = [row for found in self.by_source.values() for row in found if not row["answers"]]
        self._read_entailment(folder / "reader" / "nli.jsonl.gz", held_out)
        self._read_texts(sorted((folder / "train").glob("*.jsonl.gz")))

    def _read_questions(self, path: Path, held_out: bool) -> None:
        for row in rows(path):
            if (
                row["lang"] == "en"
                and len(row["context"]) <= 6000
                and is_held_out(row["context"]) == held_out
            ):
                self.by_source[re.sub(r"[ (/].*", "", row["source"])].append(row)
                if row["answers"]:
                    self.questions_of[row["context"]].append(row)

    def _read_entailment(self, path: Path, held_out: bool) -> None:
        self.entailment = [
            row
            for row in rows(path)
            if len(row["premise"]) <= 230
            and is_held_out(row["premise"]) == held_out
            and not row["source"].startswith(_LEFT_OUT_ENTAILMENT)
            and (row["label"] != "contradict" or _is_near(row))
        ]

        self._words = {word for row in self.entailment for word in row["premise"].split() if word.islower()}

    def within(self, sentence: str) -> str:
        """A sentence as it stands within another: its first word small, where that is no name."""
        first = sentence.split(maxsplit=1)[0]
        return sentence[:1].lower() + sentence[1:] if first.lower() in self._words else sentence

    def _read_texts(self, paths: list[Path]) -> None:
        texts: list[tuple[float, str]] = []
        tasks: list[tuple[float, str, str]] = []
        self.prose: list[str] = []
        for path in paths:
            name = path.name.removesuffix(".jsonl.gz")
            if name == "valid":
                continue
            for row in rows(path):
                prompt, text = row["prompt"].strip(), row["text"].strip()
                if prompt and text and len(prompt) < 3000:
                    tasks.append((_TASK_WEIGHT.get(name, 1.0), prompt, text[:1600]))
                elif not prompt and len(text) > 200:
                    texts.append((_TEXT_WEIGHT.get(name, 1.0), text))
                    if name.startswith(("openstax", "wikipedia", "squad")):
                        self.prose.append(text)
        self.texts, self.tasks = texts, tasks
        self.text_weights = list(itertools.accumulate(weight for weight, *_ in texts))
        self.task_weights = list(itertools.accumulate(weight for weight, *_ in tasks))

    def draw(self, rng: random.Random) -> tuple[str, dict]:
        """A question with a short answer, and the source it is of."""
        while True:
            source = rng.choices(self.sources, self.source_weights)[0]
            row = rng.choice(self.by_source[source])
            if row["answers"] and len(row["answers"][0]["text"]) <= MAX_ANSWER_CHARS:
                return source, row

    def other(self, rng: random.Random, source: str, most: int) -> str:
        """The beginning of some context of a source, `most` characters at most."""
        return rng.choice(self.by_source[source])["context"][: rng.randint(250, most)]
