"""What a language model is asked to do with a passage, and what becomes of its reply."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

__all__ = ["Asked", "Prompts", "Wanted"]

_ABOUT_ITSELF = re.compile(
    r"\b(the|this|that|given|provided|following|above)\s+(document|text|passage|excerpt|snippet"
    r"|paragraph|article|section)\b"
    r"|\b(im|dieser|diesem|dem)\s+(Text|Dokument|Abschnitt)\b|\b(ce|le)\s+(document|texte|passage)\b"
    r"|\b(este|el)\s+(documento|texto|pasaje)\b",
    re.I,
)
_REPLY = re.compile(
    r"^\s*(\d+)\.[^\n]*\n\s*Answer:[ \t]*(?P<answer>.+?)\s*\n\s*Question:[ \t]*(?P<question>[^\n]+)",
    re.M | re.S,
)
_WORD = re.compile(r"[^\W\d_]{4,}")
_SHORTEST_QUESTION = 8
_LONGEST_QUESTION = 300
_LONGEST_ANSWER = 500
_SHARED_STEM = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was drawn for a passage.

    Attributes:
        asked_in: code of the language of the questions.
        styles: the kind and the form of each.
    """

    asked_in: str
    styles: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that a passage answers.

    Attributes:
        question: as people would type it.
        start: where its answer begins in the passage.
        answer: the answer, as it stands there.
        kind: what was to be asked.
        form: how it was to be put.
        overlap: share of its longer words that stand in the passage.
    """

    question: str
    start: int
    answer: str
    kind: str
    form: str
    overlap: float


class Prompts:
    """Prompts by what stands in a file.

    Args:
        path: `asking.toml`.
        count: questions to a passage.
    """

    def __init__(self, path: Path, count: int = 3) -> None:
        self._told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        self._languages: Mapping[str, str] = self._told["languages"]
        self.system: str = self._told["system"]
        self._count = count

    def draw(self, language: str, rng: random.Random) -> Wanted:
        """What to ask of a passage in a language; seldom in another language."""
        others = sorted({one["asked_in"] for one in self._told["examples"]} - {language})
        asked_in = language
        if rng.randrange(self._told["foreign_one_in"]) == 0:
            asked_in = rng.choice(others)
        kinds = list(self._told["kinds"])
        weights = list(self._told["kinds"].values())
        chosen: list[str] = []
        while len(chosen) < self._count:
            kind = rng.choices(kinds, weights)[0]
            if kind not in chosen:
                chosen.append(kind)
        forms = rng.choices(list(self._told["forms"]), list(self._told["forms"].values()), k=self._count)
        return Wanted(asked_in, tuple(zip(chosen, forms, strict=True)))

    def prompt(self, name: str, text: str, language: str, wanted: Wanted) -> str:
        """The turn of the user.

        Args:
            name: of the document, that of its package with it: passages do not say it.
            text: of the passage.
            language: code of its language.
            wanted: what is asked for.
        """
        lines = (
            self._told["wanted"].format(number=number, kind=kind, form=form)
            for number, (kind, form) in enumerate(wanted.styles, 1)
        )
        return self._told["document"].format(
            name=name,
            language=self._languages.get(language, language),
            asked_in=self._languages.get(wanted.asked_in, wanted.asked_in),
            text=text.strip(),
            count=len(wanted.styles),
            wanted="\n".join(lines),
        )

    def shown(self) -> Iterator[tuple[str, str]]:
        """The examples: what the user says, and what is replied."""
        for one in self._told["examples"]:
            styles = tuple((item["kind"], item["form"]) for item in one["questions"])
            replies = (
                self._told["written"].format(number=number, **item)
                for number, item in enumerate(one["questions"], 1)
            )
            yield (
                self.prompt(one["name"], one["text"], one["language"], Wanted(one["asked_in"], styles)),
                "\n".join(replies),
            )

    def read(self, reply: str, text: str, wanted: Wanted) -> list[Asked]:
        """The questions of a reply that can be used.

        An answer stands in the passage, white space aside. A question does not hold its answer, and does not
        speak of the passage; what it was asked twice is taken once.
        """
        found: dict[str, Asked] = {}
        for match in _REPLY.finditer(reply):
            question, number = match["question"].strip(" \"'*"), int(match[1]) - 1
            place = _place(match["answer"], text)
            if number >= len(wanted.styles) or place is None:
                continue
            start, answer = place
            key = _plain(question)
            if (
                not _SHORTEST_QUESTION <= len(question) <= _LONGEST_QUESTION
                or len(answer) > _LONGEST_ANSWER
                or _holds(question, answer)
                or _ABOUT_ITSELF.search(question)
                or key in _plain(text)
                or key in found
            ):
                continue
            kind, form = wanted.styles[number]
            found[key] = Asked(question, start, answer, kind, form, _overlap(question, text))
        return list(found.values())


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _holds(question: str, answer: str) -> bool:
    """Whether an answer stands in a question, as words."""
    said = re.escape(" ".join(answer.lower().split()))
    return re.search(rf"(?<!\w){said}(?!\w)", " ".join(question.lower().split())) is not None


def _place(answer: str, text: str) -> tuple[int, str] | None:
    """Where an answer stands, whatever white space is between its words; None where it does not."""
    for said in (answer, answer.strip("\"'`“”«»"), answer.strip("\"'`“”«»").rstrip(".")):
        parts = said.split()
        if not parts or not re.search(r"\w", said):
            return None
        match = re.search(r"\s+".join(map(re.escape, parts)), text)
        if match:
            return match.start(), match[0]
    return None


def _overlap(question: str, text: str) -> float:
    """Share of the words of four letters or more whose beginning stands in a text."""
    stems = {word.lower()[:_SHARED_STEM] for word in _WORD.findall(question)}
    held = {word.lower()[:_SHARED_STEM] for word in _WORD.findall(text)}
    return round(len(stems & held) / max(1, len(stems)), 3)
