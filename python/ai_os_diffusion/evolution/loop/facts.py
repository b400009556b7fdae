"""What waits to be learned: facts, each in the wordings that it was asked in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from ai_os_diffusion.evolution.decision_log import Decision
from ai_os_diffusion.evolution.loop.feedback import Feedback
from ai_os_diffusion.evolution.qa_pairs import QAPair, QAPairs
from ai_os_diffusion.evolution.skill_router import everyday_questions
from ai_os_diffusion.utils.answer_match import plain

__all__ = ["Fact", "derived_name", "facts_of", "waiting_facts", "wording_key"]

_WORDS = re.compile(r"[^\W_]+")
_NAME_WORDS, _NAME_LETTERS = 2, 40


@dataclass(frozen=True)
class Fact:
    """An answer, and the questions that it belongs to.

    Attributes:
        questions: wordings that people gave, in their order.
        answer: the latest one.
        said: what was answered to them, latest last.
        uncertainty: that the latest of these was wrong; None where it is not known.
        skill: where somebody said that it belongs.
        feedback: ids of what waits of it.
        tries: how often the youngest of that was learned and rejected.
    """

    questions: tuple[str, ...]
    answer: str
    said: tuple[str, ...] = ()
    uncertainty: float | None = None
    skill: str | None = None
    feedback: tuple[str, ...] = ()
    tries: int = 0

    @property
    def learned(self) -> list[QAPair]:
        """What is learned: all wordings but the one that is held out."""
        return [
            QAPair(question, self.answer) for number, question in enumerate(self.questions) if number != 1
        ]

    @property
    def is_held_out_given(self) -> bool:
        """Whether people gave the wording that is held out."""
        return len(self.questions) > 1

    def held_out(self, seed: int) -> list[QAPair]:
        """A wording that is not learned: the second that was given, always the same; else one is made."""
        if self.is_held_out_given:
            return [QAPair(self.questions[1], self.answer)]
        return QAPairs(tuple(self.learned)).in_other_words(1, seed)

    @property
    def wrong(self) -> float:
        """The probability that what is answered now is wrong."""
        if self.said and self.said[-1]:
            return 0.0 if plain(self.said[-1]) == plain(self.answer) else 1.0
        return 1.0 if self.uncertainty is None else self.uncertainty


def facts_of(feedback: Iterable[Feedback]) -> list[Fact]:
    """Facts of what came back: of two that share a wording the later answer holds, and all wordings."""
    facts: dict[int, Fact] = {}
    by_wording: dict[str, int] = {}
    for number, one in enumerate(feedback):
        shared = sorted({by_wording[key] for key in map(wording_key, one.questions) if key in by_wording})
        earlier = [facts.pop(other) for other in shared]
        questions: dict[str, str] = {}
        for text in (*(text for fact in earlier for text in fact.questions), *one.questions):
            questions.setdefault(wording_key(text), text)
        facts[number] = Fact(
            tuple(questions.values()),
            one.answer,
            (*(text for fact in earlier for text in fact.said), one.said),
            one.uncertainty,
            one.skill or next((fact.skill for fact in reversed(earlier) if fact.skill), None),
            (*(name for fact in earlier for name in fact.feedback), one.id),
        )
        by_wording |= dict.fromkeys(questions, number)
    return list(facts.values())


def waiting_facts(feedback: Sequence[Feedback], decisions: Iterable[Decision]) -> list[Fact]:
    """Facts of which something is neither learned nor refused nor taken back."""
    settled: set[str] = set()
    tried: Counter[str] = Counter()
    for decision in decisions:
        ids = _ids(decision)
        if decision.decision in ("kept", "refused", "rolled back"):
            settled.update(ids)
        elif decision.decision == "rejected":
            tried.update(ids)
    found = []
    for fact in facts_of(feedback):
        waits = tuple(name for name in fact.feedback if name not in settled)
        if waits:
            found.append(replace(fact, feedback=waits, tries=min(tried[name] for name in waits)))
    return found


def derived_name(questions: Sequence[str], taken: Container[str]) -> str:
    """A name for a skill: the words that its questions share, and everyday questions do not."""
    common = {word for question in everyday_questions() for word in _words(question)}
    counted = Counter(word for question in questions for word in dict.fromkeys(_words(question)))
    # Most frequent first, of equals the longer: it says more.
    ranked = sorted(counted, key=lambda word: (word in common, -counted[word], -len(word), word))
    stem = "-".join(ranked[:_NAME_WORDS])[:_NAME_LETTERS].rstrip("-") or "skill"
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name


def wording_key(question: str) -> str:
    """What tells a wording from another: its words, whatever their case and the spaces between them."""
    return " ".join(question.casefold().split())


def _ids(decision: Decision) -> list[str]:
    found = decision.inputs.get("feedback", ())
    return [name for name in found if isinstance(name, str)] if isinstance(found, list | tuple) else []


def _words(question: str) -> list[str]:
    return _WORDS.findall(question.lower())
