"""What is learned next, as a file: whoever goes on with it comes to the same card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.evolution.judging.gate import held_out_of, learned_of
from ai_os_diffusion.evolution.loop.facts import Fact, derived_name
from ai_os_diffusion.evolution.qa_pairs import QAPair, QAPairs
from ai_os_diffusion.evolution.skill_router import Embed, SkillRouter
from ai_os_diffusion.evolution.skills import skill_path
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.utils.answer_match import plain
from ai_os_diffusion.utils.errors import EvolutionError
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.regular_file import read_json

__all__ = ["Group", "Lesson", "grouped"]

_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Group:
    """Facts that belong to one skill.

    Attributes:
        skill: its name.
        facts: what waits.
        before: the card that they are added to; None for a new skill.
        is_stale: that card is of a base that is gone.
    """

    skill: str
    facts: tuple[Fact, ...]
    before: Card | None = None
    is_stale: bool = False

    @property
    def feedback(self) -> tuple[str, ...]:
        """Ids of what is settled when it is learned."""
        ids = tuple(name for fact in self.facts for name in fact.feedback)
        return (*ids, stale_id(self.before)) if self.is_stale and self.before is not None else ids

    def lesson(self, embed: Embed, version: int, base: str, epochs: int, seed: int) -> Lesson:
        """What is learned for them: with what the skill could before, where it is not corrected.

        Args:
            embed: unit vectors of questions.
            version: that the skill gets.
            base: sha256 of the weights that it is learned on.
            epochs: how often each question is asked.
            seed: of the training, and of wordings that are made.
        """
        pairs, held_out = _kept(self.before, self.facts, embed)
        pairs += [pair for fact in self.facts for pair in fact.learned]
        held_out += [pair for fact in self.facts for pair in fact.held_out(seed)]
        return Lesson(
            self.skill,
            version,
            tuple(dict.fromkeys(pairs)),
            tuple(dict.fromkeys(held_out)) or tuple(QAPairs(tuple(pairs)).in_other_words(len(pairs), seed)),
            sum(fact.is_held_out_given for fact in self.facts),
            len(self.facts),
            self.feedback,
            base,
            epochs,
            seed,
        )


@dataclass(frozen=True)
class Lesson:
    """A skill to be learned.

    Attributes:
        skill: its name.
        version: that it gets.
        pairs: what is learned.
        held_out: what it is judged by.
        given: new facts whose held-out wording people gave; the others' was made by leaving words out.
        facts: how many are new.
        feedback: ids of what this settles.
        base: sha256 of the weights that it is learned on.
        epochs: how often each pair is asked.
        seed: of all that is drawn.
    """

    skill: str
    version: int
    pairs: tuple[QAPair, ...]
    held_out: tuple[QAPair, ...]
    given: int
    facts: int
    feedback: tuple[str, ...]
    base: str
    epochs: int
    seed: int

    @property
    def id(self) -> str:
        """Tells it from every other."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with replacing(path) as draft:
            draft.write_text(json.dumps(asdict(self)), encoding="ascii")

    @classmethod
    def load(cls, path: Path) -> Lesson | None:
        """Read one; None where there is none, or none that can be read: it is planned again."""
        if not path.exists():
            return None
        try:
            row: Mapping[str, Any] = read_json(path, _MOST_BYTES, EvolutionError)
            found = cls(
                **{
                    **row,
                    "pairs": QAPairs.of(QAPair(**pair) for pair in row["pairs"]).pairs,
                    "held_out": QAPairs.of(QAPair(**pair) for pair in row["held_out"]).pairs,
                    "feedback": tuple(map(str, row["feedback"])),
                }
            )
        except (EvolutionError, KeyError, TypeError, AttributeError, OSError):
            return None
        return found if skill_path(found.skill, path.parent) is not None else None


def grouped(
    facts: Sequence[Fact],
    cards: Sequence[Card],
    stale: Sequence[Card],
    folder: Path,
    embed: Embed,
    tries: int,
) -> list[Group]:
    """Put facts to the skills they belong to.

    By the name that was given; else to the skill that a question like it would be routed to; else together to
    a new one. What was rejected together is tried again fact by fact: one of them may be what was wrong.

    Args:
        facts: what waits.
        cards: the skills that the base can use.
        stale: skills of a base that is gone.
        folder: of the skills.
        embed: unit vectors of questions.
        tries: after which a fact is left.
    """
    # A card that does not hold all it was learned from would lose the rest.
    known = {card.name: card for card in (*stale, *cards) if learned_of(card)}
    router = SkillRouter(embed, cards)
    routes = router.routes([fact.questions[0] for fact in facts]) if facts else []
    together: dict[tuple[str, bool], list[Fact]] = {}
    alone: list[tuple[str, Fact]] = []
    for fact, route in zip(facts, routes, strict=True):
        near = "" if route.skill is None else route.skill.name
        name = fact.skill or (near if near in known else "")
        if 0 < fact.tries < tries:
            alone.append((name, fact))
        else:
            together.setdefault((name, fact.tries >= tries), []).append(fact)
    taken = {path.stem for path in folder.glob("*.parquet")}
    found: list[Group] = []
    groups = [(name, those) for (name, _), those in together.items()]
    groups += [(name, [fact]) for name, fact in alone]
    groups += [(card.name, []) for card in stale if card.name in known and (card.name, False) not in together]
    for name, those in groups:
        before = known.get(name)
        own = name
        if before is None and (not name or name in taken):
            questions = [fact.questions[0] for fact in those]
            own = derived_name(questions, taken) if not name else _numbered(name, taken)
        taken.add(own)
        found.append(Group(own, tuple(those), before, any(card is before for card in stale)))
    return found


def stale_id(card: Card) -> str:
    """What stands for a card of a base that is gone among what waits."""
    return f"{card.name}@{card.description.base.weights_sha256}"


def _kept(before: Card | None, facts: Sequence[Fact], embed: Embed) -> tuple[list[QAPair], list[QAPair]]:
    """What a skill was taught and judged by, without what the facts say otherwise."""
    if before is None:
        return [], []
    learned, held_out = learned_of(before), held_out_of(before)
    own = {question.casefold() for fact in facts for question in fact.questions}
    overruled = {pair for pair in learned if pair.question.casefold() in own}
    vectors = embed([pair.question for pair in learned])
    for fact in facts:
        said = {plain(text) for text in fact.said if text} if fact.wrong else set()
        similarities = embed([fact.questions[0]])[0] @ vectors.T
        # What was said, and was wrong, is what the skill had been taught for the nearest of its questions.
        for number in np.argsort(-similarities, kind="stable").tolist():
            if plain(learned[number].answer) not in said:
                break
            overruled.add(learned[number])
    # In other words they were asked too, and these were not learned.
    sources = (embed([pair.question for pair in held_out]) @ vectors.T).argmax(axis=1) if held_out else []
    stands = [
        pair
        for pair, source in zip(held_out, sources, strict=True)
        if pair.question.casefold() not in own
        and not (learned[source] in overruled and learned[source].answer == pair.answer)
    ]
    return [pair for pair in learned if pair not in overruled], stands


def _numbered(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
