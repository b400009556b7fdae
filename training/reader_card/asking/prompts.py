"""What a language model is asked to do with a passage, and what becomes of its reply."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

__all__ = ["Asked", "Prompts"]

_ABOUT_ITSELF = re.compile(
    r"\b(the|this|that|given|provided|following|above)\s+(document|text|passage|excerpt|snippet"
    r"|paragraph|article|section)\b"
    r"|\b(im|dieser|diesem|dem)\s+(Text|Dokument|Abschnitt)\b|\b(ce|le)\s+(document|texte|passage)\b"
    r"|\b(este|el)\s+(documento|texto|pasaje)\b",
    re.I,
)
_REPLY = re.compile(
    r"^Question:[ \t]*(?P<question>[^\n]+)\n\s*Answer:[ \t]*(?P<answer>.+?)\s*(?=^Question:|\Z)", re.M | re.S
)
_WORD = re.compile(r"[^\W\d_]{4,}")
_SHORTEST_QUESTION = 8
_LONGEST_QUESTION = 300
_LONGEST_ANSWER = 500
_SHARED_STEM = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that a passage answers.

    Attributes:
        question: as people would type it.
        start: where its answer begins in the passage.
        answer: the answer, as it stands there.
        overlap: share of its longer words that stand in the passage.
    """

    question: str
    start: int
    answer: str
    overlap: float


class Prompts:
    """Prompts by what stands in a file.

    Args:
        path: `asking.toml`.
    """

    def __init__(self, path: Path) -> None:
        self._told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        self._manners = {manner["name"]: manner for manner in self._told["manners"]}

    @property
    def manners(self) -> tuple[str, ...]:
        """Names of the manners of asking."""
        return tuple(self._manners)

    def order(self, rng: random.Random) -> list[str]:
        """The manners in which a passage is asked, one after another: those of greater weight sooner."""
        return sorted(self._manners, key=lambda name: rng.expovariate(self._manners[name]["weight"]))

    def system(self, manner: str) -> str:
        """What is told before all."""
        return self._told["system"].format(told=self._manners[manner]["told"])

    def asked_in(self, manner: str, language: str, rng: random.Random) -> str:
        """The language of questions to a passage: its own, or where the manner is to ask so, another one."""
        shown = self._manners[manner]["examples"]
        if all(one["asked_in"] == self._told["documents"][one["document"]]["language"] for one in shown):
            return language
        return rng.choice(sorted({one["asked_in"] for one in shown} - {language}))

    def prompt(self, name: str, text: str, asked_in: str) -> str:
        """The turn of the user.

        Args:
            name: of the document, that of its package with it: passages do not say it.
            text: of the passage.
            asked_in: code of a language.
        """
        language = self._told["languages"].get(asked_in, asked_in)
        return self._told["prompt"].format(name=name, text=text.strip(), asked_in=language)

    def shown(self, manner: str) -> Iterator[tuple[str, str]]:
        """The examples of a manner: what the user says, and what is replied."""
        for one in self._manners[manner]["examples"]:
            document = self._told["documents"][one["document"]]
            yield (
                self.prompt(document["name"], document["text"], one["asked_in"]),
                "\n".join(self._told["written"].format(**item) for item in one["questions"]),
            )

    def read(self, reply: str, text: str) -> list[Asked]:
        """The questions of a reply that can be used.

        An answer stands in the passage, white space aside. A question does not hold its answer, and does not
        speak of the passage; what it was asked twice is taken once.
        """
        found: dict[str, Asked] = {}
        for match in _REPLY.finditer(reply):
            question = match["question"].strip(" \"'*")
            place = _place(match["answer"], text)
            if place is None:
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
            found[key] = Asked(question, start, answer, _overlap(question, text))
        return list(found.values())


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _holds(question: str, answer: str) -> bool:
    """Whether an answer stands in a question, as words."""
    said = re.escape(" ".join(answer.lower().split()))
    return re.search(rf"(?<!\w){said}(?!\w)", " ".join(question.lower().split())) is not None


def _place(answer: str, text: str) -> tuple[int, str] | None:
    """Where an answer stands, whatever its case and the white space between its words, or None."""
    for said in (answer, answer.strip("\"'`“”«»"), answer.strip("\"'`“”«»").rstrip(".")):
        parts = said.split()
        if not parts or not re.search(r"\w", said):
            return None
        match = re.search(r"\s+".join(map(re.escape, parts)), text, re.I)
        if match:
            return match.start(), match[0]
    return None


def _overlap(question: str, text: str) -> float:
    """Share of the words of four letters or more whose beginning stands in a text."""
    stems = {word.lower()[:_SHARED_STEM] for word in _WORD.findall(question)}
    held = {word.lower()[:_SHARED_STEM] for word in _WORD.findall(text)}
    return round(len(stems & held) / max(1, len(stems)), 3)
