"""Questions to whole documents, as `ask` meets them: what a reader finds, and whether a person would take it.

Held-out packages of `training/reader_card` are searched together, each question as one person would ask it
of all of them; some speak of a name that stands nowhere. To some of their passages a larger model wrote
questions in words of its own. Questions of
`real_documents/tune.jsonl`, the part that may be looked at, go to a store of those documents.
"""

from __future__ import annotations

import gzip
import json
import lzma
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.answers.candidates import Candidate, candidates
from ai_os_diffusion.answers.decision import statement_of
from ai_os_diffusion.answers.judge import Judged
from ai_os_diffusion.answers.recall import RecallHit
from judging import READ_CHARS, Said, flat
from open_questions import READ, Asked, Pool, Read, found, read_all, stored
from real_documents import questions_of, verdict

_OF_A_KIND = 30
_EXCHANGED_OF_A_KIND = 8
"""Questions of a kind at most: of rare kinds all would be few anyway."""
_LIKELY = 0.7
"""P(yes) of the judge, at least, that a passage answers what was written to it."""
_TELLING = 20
"""Characters of an answer that is known wherever it stands; a shorter one may stand anywhere by chance."""


def shown(candidate: Candidate) -> str:
    """What a person reads of an answer: itself, and what it is quoted in."""
    statement = statement_of(Judged(candidate, None))
    return flat(f"{statement.text}\n{statement.citations[0].quote}")[:READ_CHARS]


class PackageRead(Read):
    """A question to packages. Where no span is the answer, it is right to show the block that begins so."""

    def is_right(self, candidate: Candidate) -> bool:
        """Whether the span is right, or what is shown holds the accepted answer."""
        if self.removed:
            return False
        if super().is_right(candidate):
            return True
        is_gold = candidate.places[0].hit.memory_id == f"{self.asked.gold}"
        said = shown(candidate)
        return any(
            flat(answer) in said for answer in self.asked.answers if is_gold or len(answer) >= _TELLING
        )


@dataclass(frozen=True)
class DocumentRead(Read):
    """A question to real documents.

    Attributes:
        question: as `real_documents` has it.
    """

    question: Mapping[str, Any]

    def is_right(self, candidate: Candidate) -> bool:
        """Whether a person who reads it says so."""
        statement = statement_of(Judged(candidate, None))
        texts = [statement.text, *(own.quote for own in statement.citations)]
        sources = tuple(own.source for own in statement.citations)
        return verdict(self.question, Said(statement.text, "\n".join(texts), sources, False)) == "right"


def package_reads(engine: Any, file: Path, seed: int) -> Iterator[Read]:
    """Ask questions of all kinds of the rows of held-out packages, all passages being searched.

    Args:
        engine: an encoder with a reader attached.
        file: .jsonl.gz of rows, as `training/reader_card` makes them.
        seed: draws questions.
    """
    rows = list(_lines(file))
    texts = dict.fromkeys(passage["text"] for row in rows for passage in row["passages"])
    pool = Pool("packages", list(texts), range(len(texts)), ())
    place = {text: index for index, text in enumerate(pool.passages)}
    with tempfile.TemporaryDirectory() as folder, stored(engine, pool, Path(folder)) as store:
        for row in _drawn(rows, seed):
            first = row["passages"][0]
            is_answered = bool(first.get("relevant"))
            answers = tuple(one["text"] for one in first.get("answers", ()))
            asked = Asked(row["question"], answers, place[first["text"]] if is_answered else -1)
            places = found(engine, store, asked.text, engine.encode_query([asked.text])[0])[:READ]
            hits = [RecallHit(f"{index}", pool.passages[index], cosine) for index, cosine in places]
            competing = candidates(asked.text, hits, engine.read(asked.text, [hit.text for hit in hits]))
            yield PackageRead(asked, competing, not is_answered, pool.name)


def written_pool(folder: Path, count: int, seed: int) -> Pool:
    """Questions that were written to passages of held-out packages, each to all of these passages.

    Args:
        folder: of `passages_dev`, `questions_dev-*` and `judged_dev-*`, as `training/reader_card/asking` has
            them.
        count: questions.
        seed: draws them.
    """
    (file,) = folder.glob("passages_dev.jsonl*")
    passages = list(_lines(file))
    place = {one["id"]: index for index, one in enumerate(passages)}
    documents = dict.fromkeys((one["package"], one["document"]) for one in passages)
    numbers = {document: number for number, document in enumerate(documents)}
    likely = {
        (one["passage"], one["question"])
        for part in sorted(folder.glob("judged_dev-*"))
        for one in _lines(part)
        if one["yes"] >= _LIKELY
    }
    asked = [
        Asked(one["question"], (one["answer"],), place[one["passage"]])
        for part in sorted(folder.glob("questions_dev-*"))
        for one in _lines(part)
        if (one["passage"], one["question"]) in likely and one["passage"] in place
    ]
    return Pool(
        "written",
        [one["text"] for one in passages],
        [numbers[one["package"], one["document"]] for one in passages],
        random.Random(seed).sample(asked, min(count, len(asked))),
    )


def written_reads(engine: Any, folder: Path, count: int, seed: int) -> Iterator[Read]:
    """Ask them, and some a second time without their document and whatever else holds the answer.

    Args:
        engine: an encoder with a reader attached.
        folder: as for `written_pool`.
        count: questions.
        seed: draws them.
    """
    yield from read_all(engine, written_pool(folder, count, seed), PackageRead)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    opened = {".gz": gzip.open, ".xz": lzma.open}.get(file.suffix, open)
    with opened(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def document_reads(card: Path, store: Path, *, models: Mapping[str, Any] | None = None) -> Iterator[Read]:
    """Ask the questions that may be looked at, follow-ups aside, as `ask` does.

    Args:
        card: the reader.
        store: that `real_documents.py --store` fills.
        models: further settings.
    """
    from ai_os_diffusion.config import load_config
    from ai_os_diffusion.runtime import open_runtime

    settings = {"storage.path": store, "model.reader": f"{card}", **(models or {})}
    with open_runtime(load_config(overrides=settings)) as runtime:
        reader = runtime.reader
        assert reader is not None
        for question in questions_of("tune"):
            if question["before"]:
                continue
            recalled = runtime.to_read(question["question"])
            competing = reader.candidates(recalled, reader.read(recalled.question, recalled.hits))
            asked = Asked(recalled.question, (), -1)
            yield DocumentRead(asked, competing, not question["lines"], "documents", question)


def _drawn(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Questions of every kind, of frequent ones no more than of others."""
    rng, kinds = random.Random(seed), {}
    for row in rows:
        first = row["passages"][0]
        if not first.get("relevant") or first.get("answers"):
            kinds.setdefault(row["kind"], []).append(row)
    found_rows = []
    for kind, own in sorted(kinds.items()):
        most = _EXCHANGED_OF_A_KIND if kind.startswith("exchanged") else _OF_A_KIND
        found_rows += rng.sample(own, min(most, len(own)))
    return found_rows
