"""Whether what was learned is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.evolution.skill_router import ELSEWHERE, Embed, SkillRouter
from ai_os_diffusion.evolution.skill_test import SkillTest
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Gate", "Verdict", "held_out_of"]

_RESAMPLES = 10_000
_SURE = 0.05
"""Share of the resamples that may gain nothing."""

_MOST_LOST = 0.01
"""Part by which the perplexity of what the model says elsewhere may rise, and of what other skills answer may
be lost."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Attributes:
        faults: why the card is not kept; empty where it is.
        figures: what was measured, by name.
        before: the held-out questions without the card.
        after: the same with it, where they are routed to it.
    """

    faults: tuple[str, ...]
    figures: dict[str, float]
    before: SkillTest
    after: SkillTest

    @property
    def is_kept(self) -> bool:
        """Whether nothing speaks against the card."""
        return not self.faults


class Gate:
    """Lets a card pass that helps where it is asked for and changes nothing elsewhere.

    All is asked as it will be: each question with the skill that a router chooses for it, without the card
    and with it. Three things are looked at, for each misses what another sees: right answers to wordings that
    were never learned, the probability of those answers, and of what the model says to everyday questions.

    Args:
        engine: the decoder.
        embed: as for `SkillRouter`.
        skills: those that are here.
        seed: of the resamples.
    """

    def __init__(self, engine: ArrowEngine, embed: Embed, skills: Iterable[Card] = (), seed: int = 0) -> None:
        self._engine, self._embed, self._seed = engine, embed, seed
        self._skills = list(skills)

    def judge(self, card: Card, held_out: Sequence[QAPair]) -> Verdict:
        """Judge a card.

        Args:
            card: what was learned.
            held_out: questions in wordings that it did not learn from, with their answers.

        Raises:
            TrainingError: nothing is held out.
            CardError: the card does not belong to the model.
        """
        if not held_out:
            raise TrainingError("nothing is held out; expected questions in other wordings than were learned")
        without, among = (SkillRouter(self._embed, cards) for cards in (self._skills, [*self._skills, card]))
        figures: dict[str, float] = {}
        faults: list[str] = []
        before, after = self._asked(without, held_out), self._asked(among, held_out)
        gain = np.array(after.right, float) - np.array(before.right, float)
        bits = self._bits(without, among, held_out)
        figures |= {
            "right_before": before.exact_match,
            "right_after": after.exact_match,
            "sure_gain": self._sure(gain),
            "bits": float(bits.mean()),
            "sure_bits": self._sure(bits),
        }
        if figures["sure_gain"] <= 0:
            faults.append(
                f"of {len(held_out)} questions in other wordings {sum(before.right)} were right before and "
                f"{sum(after.right)} with it, which is no sure gain"
            )
        if figures["sure_bits"] <= 0:
            faults.append(f"their answers are not surely likelier: {figures['bits']:.2f} bits each")
        faults += self._others(without, among, card, figures)
        faults += self._elsewhere(without, among, card, figures)
        return Verdict(tuple(faults), figures, before, after)

    def _asked(self, router: SkillRouter, pairs: Sequence[QAPair]) -> SkillTest:
        """Each with the skill that it is routed to."""
        said = [""] * len(pairs)
        for skill, numbers in _by_skill(router, pairs).items():
            those = [pairs[number] for number in numbers]
            found = self._ask(skill, those)
            for number, text in zip(numbers, found.said, strict=True):
                said[number] = text
        return SkillTest(tuple(pairs), tuple(said))

    def _ask(self, skill: Card | None, pairs: Sequence[QAPair]) -> SkillTest:
        if skill is None:
            return SkillTest.of(self._engine, pairs)
        with self._engine.using(skill):
            return SkillTest.of(self._engine, pairs)

    def _bits(self, without: SkillRouter, among: SkillRouter, pairs: Sequence[QAPair]) -> Numbers:
        """By how many bits each answer is likelier."""
        before, after = (self._nats(router, pairs) for router in (without, among))
        return (before - after) / math.log(2)

    def _nats(self, router: SkillRouter, pairs: Sequence[QAPair]) -> Numbers:
        """Negative log-likelihood of each answer as it is routed."""
        found = np.zeros(len(pairs))
        for skill, numbers in _by_skill(router, pairs).items():
            for number in numbers:
                found[number] = self._nats_with(skill, pairs[number]).sum()
        return found

    def _nats_with(self, skill: Card | None, pair: QAPair) -> Numbers:
        tokenizer = self._engine.tokenizer
        turn = turn_ids(tokenizer, pair.question, None)
        ids = np.concatenate([turn, text_ids(tokenizer, pair.answer)])
        if skill is None:
            nats = self._engine.core.token_nll(ids, len(turn))
        else:
            with self._engine.using(skill):
                nats = self._engine.core.token_nll(ids, len(turn))
        return np.asarray(nats, np.float64)

    def _others(
        self, without: SkillRouter, among: SkillRouter, card: Card, figures: dict[str, float]
    ) -> list[str]:
        """What other skills can answer, and the card would now be asked."""
        asked = [pair for skill in self._skills for pair in held_out_of(skill)]
        taken = [pair for pair in asked if among.route(pair.question).skill is card]
        before, after = (sum(self._asked(router, taken).right) for router in (without, among))
        lost = (before - after) / max(len(asked), 1)
        figures["lost_of_other_skills"] = lost
        if lost <= _MOST_LOST:
            return []
        return [f"{before - after} of {len(asked)} questions of other skills are no longer answered right"]

    def _elsewhere(
        self, without: SkillRouter, among: SkillRouter, card: Card, figures: dict[str, float]
    ) -> list[str]:
        """What the model says to everyday questions, as likely as before."""
        taken = [question for question in ELSEWHERE if among.route(question).skill is card]
        said = self._asked(without, [QAPair(question, "") for question in taken])
        pairs = [QAPair(question, text) for question, text in zip(taken, said.said, strict=True) if text]
        rise, tokens = 0.0, 1
        for pair in pairs:
            nats = self._nats_with(without.route(pair.question).skill, pair)
            rise += float((self._nats_with(card, pair) - nats).sum())
            tokens += len(nats)
        # Those that are not routed to it are what they were.
        mean = rise / tokens * len(taken) / len(ELSEWHERE)
        figures["perplexity_elsewhere"] = math.exp(mean)
        if figures["perplexity_elsewhere"] <= 1 + _MOST_LOST:
            return []
        return [
            f"{len(taken)} of {len(ELSEWHERE)} everyday questions would be answered by it, and what is said "
            f"to all has {figures['perplexity_elsewhere']:.3f} times its perplexity"
        ]

    def _sure(self, gains: Numbers) -> float:
        """What the mean gain is at least, in all but few of its resamples."""
        rng = np.random.default_rng(self._seed)
        drawn = rng.integers(0, len(gains), (_RESAMPLES, len(gains)))
        return float(np.quantile(gains[drawn].mean(axis=1), _SURE))


def held_out_of(card: Card) -> list[QAPair]:
    """The questions that a card was judged by."""
    found = card.description.config.get("held_out", [])
    rows: Sequence[Any] = found if isinstance(found, list | tuple) else ()
    return [
        QAPair(*row)
        for row in rows
        if isinstance(row, list | tuple) and len(row) == 2 and all(isinstance(text, str) for text in row)
    ]


def _by_skill(router: SkillRouter, pairs: Sequence[QAPair]) -> dict[Card | None, list[int]]:
    found: dict[Card | None, list[int]] = {}
    for number, pair in enumerate(pairs):
        found.setdefault(router.route(pair.question).skill, []).append(number)
    return found
