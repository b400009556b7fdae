"""Which skill a question belongs to, if to any."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.wordings import reworded
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.description import CONTROL

__all__ = ["Embed", "Route", "SkillRouter", "everyday_questions"]

Embed = Callable[[Sequence[str]], NDArray[Any]]

_REWORDED = 64
"""Questions in other words by which the similarities of a skill's own are known."""

_DROPPED = LoRAConfig.dropped_words
"""Part of their words that is left out, as in learning."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a question goes, and why.

    Attributes:
        skill: the skill it belongs to; None where it is like the examples of none.
        similarity: cosine to the nearest example of the skill that comes nearest.
        threshold: what the similarity has to reach.
        example: that example; "" where no skill has any.
    """

    skill: Card | None
    similarity: float
    threshold: float
    example: str


class SkillRouter:
    """Chooses the skill whose questions are nearest to a question, or none.

    A skill that is used whatever is asked answers everything in its manner. Its card holds the questions that
    it was learned from. Where the similarity of other questions ends and that of its own in other words
    begins is found for each skill: where both are equally likely to be mistaken, each taken as normally
    distributed. The others are the examples of the other skills, and questions on everyday matters
    (`elsewhere.txt`).

    Args:
        embed: unit vectors of questions, float32[n, dim].
        skills: cards; one without examples is never chosen, and no control.

    Example:
        >>> router = SkillRouter(encoder.encode, list_skills(folder))  # doctest: +SKIP
        >>> with router.using(engine, question) as route:  # doctest: +SKIP
        ...     answer = engine.generate(messages=[{"role": "user", "content": question}])
    """

    def __init__(self, embed: Embed, skills: Iterable[Card]) -> None:
        # The latest last: of two that were learned from the same question it knows better.
        self._cards = tuple(sorted(skills, key=lambda card: card.description.created_at or ""))
        self._embed = embed
        examples = {card: _examples(card) for card in self._cards}
        vectors = {card: embed(own) for card, own in examples.items() if own}
        elsewhere = embed(everyday_questions())
        self._skills = [
            _Examples(
                card,
                examples[card],
                own,
                _threshold(
                    _nearest(embed(_in_other_words(examples[card])), own),
                    _nearest(
                        np.concatenate(
                            [elsewhere, *(them for other, them in vectors.items() if other is not card)]
                        ),
                        own,
                    ),
                ),
            )
            for card, own in vectors.items()
        ]

    @property
    def cards(self) -> tuple[Card, ...]:
        """Those it was given."""
        return self._cards

    def route(self, question: str) -> Route:
        """Find the skill of a question."""
        return self.routes([question])[0]

    def routes(self, questions: Sequence[str]) -> list[Route]:
        """Find the skill of each question; they are embedded together."""
        if not self._skills or not questions:
            return [Route(None, 0.0, 1.0, "") for _ in questions]
        vectors = self._embed(questions)
        by_skill = [skill.routes(vectors) for skill in self._skills]
        return [_best(routes) for routes in zip(*by_skill, strict=True)]

    @contextmanager
    def using(self, engine: ArrowEngine, question: str) -> Iterator[Route]:
        """Use the skill of a question in a `with` block of this thread, if there is one."""
        route = self.route(question)
        with nullcontext() if route.skill is None else engine.using(route.skill):
            yield route


@dataclass(frozen=True, slots=True)
class _Examples:
    card: Card
    questions: Sequence[str]
    vectors: NDArray[Any]
    threshold: float

    def routes(self, vectors: NDArray[Any]) -> list[Route]:
        similarities = vectors @ self.vectors.T
        nearest = zip(similarities.max(axis=1).tolist(), similarities.argmax(axis=1).tolist(), strict=True)
        return [
            Route(
                self.card if similarity >= self.threshold else None,
                similarity,
                self.threshold,
                self.questions[best],
            )
            for similarity, best in nearest
        ]


def _best(routes: Sequence[Route]) -> Route:
    """Of what each skill says of a question."""
    chosen = [route for route in routes if route.skill is not None]
    # Equal to what is told of it.
    return max(reversed(chosen or routes), key=lambda route: round(route.similarity, 4))


def everyday_questions() -> tuple[str, ...]:
    """Questions on everyday matters, which belong to no skill."""
    return tuple(files(__package__).joinpath("elsewhere.txt").read_text("utf-8").split("\n")[:-1])


def _examples(card: Card) -> list[str]:
    if card.description.kind == CONTROL:
        # Whatever is asked may be answered in its structure; whoever wants it attaches it.
        return []
    found = card.description.config.get("examples", [])
    return [text for text in found if isinstance(text, str)] if isinstance(found, list | tuple) else []


def _in_other_words(questions: Sequence[str]) -> list[str]:
    rng = random.Random(0)  # noqa: S311  # no secret
    each = -(-_REWORDED // len(questions))
    return [reworded(question, _DROPPED, rng) for question in questions for _ in range(each)]


def _nearest(vectors: NDArray[Any], examples: NDArray[Any]) -> NDArray[Any]:
    """Similarity of each to the nearest example."""
    nearest: NDArray[Any] = (vectors @ examples.T).max(axis=1)
    return nearest


def _threshold(own: NDArray[Any], others: NDArray[Any]) -> float:
    """Where a normal distribution of each has as much on its wrong side as the other."""
    spread, spread_of_others = max(float(own.std()), 1e-3), max(float(others.std()), 1e-3)
    weighed = float(own.mean()) * spread_of_others + float(others.mean()) * spread
    return weighed / (spread + spread_of_others)
