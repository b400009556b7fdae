"""Whether what was learned is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.judging.elsewhere import Elsewhere, log_shares
from ai_os_diffusion.evolution.judging.skill_test import ROOM, SkillTest, room_of
from ai_os_diffusion.evolution.judging.tolerances import Tolerances
from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.evolution.skill_router import Embed, SkillRouter, everyday_questions
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.description import CONTROL, DIFFUSION
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Gate", "Verdict", "held_out_of", "learned_of"]

_RESAMPLES = 10_000
_SURE = 0.05
"""Share of the resamples that may gain nothing."""

_NEVER = -1e9

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Attributes:
        faults: why the card is not kept; empty where it is.
        figures: what was measured, by name.
        before: the held-out questions without the card; of a new version those that are new.
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
    were never learned, the probability of those answers, and what the model says to everyday questions, by
    its perplexity and by KL(before ‖ with the card).

    A card of a name that is here is a new version: it takes the place of the one before, must add what that
    one does not hold, and may lose no more of what it does than of what other skills answer.

    A control, which no question is routed to, is attached for all that is held out. Right is what is built as
    the expected answer is, whatever it says; and elsewhere is a text that asks nothing.

    Args:
        engine: the decoder.
        embed: as for `SkillRouter`.
        skills: those that are here.
        seed: of the resamples.
        mode: in which the engine is asked: "ar" or "diffusion".
        tolerances: how much of the rest may change.
    """

    def __init__(
        self,
        engine: ArrowEngine,
        embed: Embed,
        skills: Iterable[Card] = (),
        seed: int = 0,
        mode: str = "ar",
        tolerances: Tolerances | None = None,
    ) -> None:
        self._engine, self._embed, self._seed, self._mode = engine, embed, seed, mode
        self._skills, self._tolerances = list(skills), tolerances or Tolerances()

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
        others = [skill for skill in self._skills if skill.name != card.name]
        known = {pair for skill in self._skills if skill.name == card.name for pair in held_out_of(skill)}
        without, among = (SkillRouter(self._embed, cards) for cards in (self._skills, [*others, card]))
        judged_by = list(held_out)
        held_out = [pair for pair in judged_by if pair not in known] or judged_by
        figures: dict[str, float] = {}
        faults: list[str] = []
        is_control = card.description.kind == CONTROL
        ways = [_skills_of(router, held_out) for router in (without, among)]
        if is_control:
            ways = [[skill] * len(held_out) for skill in (None, card)]
        room = room_of(self._engine, held_out) if is_control else ROOM
        before, after = (self._asked(skills, held_out, room) for skills in ways)
        rights = [np.array(one.in_structure if is_control else one.right, float) for one in (before, after)]
        gain = rights[1] - rights[0]
        nats = [self._nats(skills, held_out) for skills in ways]
        bits = (nats[0] - nats[1]) / math.log(2)
        figures |= {
            "right_before": float(rights[0].mean()),
            "right_after": float(rights[1].mean()),
            "sure_gain": self._sure(gain),
            "bits": float(bits.mean()),
            "sure_bits": self._sure(bits),
        }
        if figures["sure_gain"] <= 0:
            faults.append(
                f"of {len(held_out)} questions in other wordings {rights[0].sum():.0f} were right before and "
                f"{rights[1].sum():.0f} with it, which is no sure gain"
            )
        if figures["sure_bits"] <= 0:
            faults.append(f"their answers are not surely likelier: {figures['bits']:.2f} bits each")
        if is_control:
            faults += self._beside(card, figures)
            return Verdict(tuple(faults), figures, before, after)
        faults += self._others(without, among, card, judged_by, figures)
        faults += self._elsewhere(without, among, card, figures)
        return Verdict(tuple(faults), figures, before, after)

    def prove(self, card: Card) -> Verdict:
        """Ask a skill its own held-out questions again, as they are routed, without it and with it.

        Args:
            card: one of the skills.
        """
        held_out = held_out_of(card)
        others = [skill for skill in self._skills if skill is not card]
        before, after = (
            self._asked(_skills_of(SkillRouter(self._embed, cards), held_out), held_out)
            for cards in (others, self._skills)
        )
        figures = {"right_before": before.exact_match, "right_after": after.exact_match}
        faults: tuple[str, ...] = ()
        if sum(after.right) <= sum(before.right):
            faults = (
                f"of {len(held_out)} questions of its own {sum(after.right)} are right with it and "
                f"{sum(before.right)} without",
            )
        return Verdict(faults, figures, before, after)

    def _asked(self, skills: Sequence[Card | None], pairs: Sequence[QAPair], room: int = ROOM) -> SkillTest:
        """Each with its skill."""
        return SkillTest.with_skills(self._engine, skills, pairs, self._mode, room)

    def _nats(self, skills: Sequence[Card | None], pairs: Sequence[QAPair]) -> Numbers:
        """Negative log-likelihood of each answer with its skill."""
        return np.array(
            [self._nats_with(skill, pair).sum() for skill, pair in zip(skills, pairs, strict=True)]
        )

    def _nats_with(self, skill: Card | None, pair: QAPair) -> Numbers:
        answer, logs = self._logs_with(skill, pair)
        return -logs[np.arange(len(answer)), answer]

    def _logs_with(self, skill: Card | None, pair: QAPair) -> tuple[NDArray[np.int32], Numbers]:
        """The tokens of the answer; logarithms of probabilities in their places, [n, vocabulary]."""
        tokenizer = self._engine.tokenizer
        answer = text_ids(tokenizer, pair.answer)
        with self._with(skill):
            if self._mode == DIFFUSION:
                return answer, masked_logs(self._engine, pair.question, len(answer))
            turn = turn_ids(tokenizer, pair.question, None)
            logits = self._engine.core.logits(np.concatenate([turn, answer]))
            return answer, log_shares(logits[len(turn) - 1 : -1])

    def _with(self, skill: Card | None) -> AbstractContextManager[None]:
        return nullcontext() if skill is None else self._engine.using(skill)

    def _others(
        self,
        without: SkillRouter,
        among: SkillRouter,
        card: Card,
        held_out: Sequence[QAPair],
        figures: dict[str, float],
    ) -> list[str]:
        """What other skills and the version before can answer, and the card would now be asked."""
        asked = [
            pair
            for skill in self._skills
            for pair in held_out_of(skill)
            if skill.name != card.name or pair in held_out
        ]
        # What it was taught to answer otherwise is no loss.
        taught = {pair.question.casefold(): pair.answer for pair in held_out}
        asked = [pair for pair in asked if taught.get(pair.question.casefold(), pair.answer) == pair.answer]
        moved = zip(_skills_of(without, asked), _skills_of(among, asked), asked, strict=True)
        taken = [
            pair for old, new, pair in moved if new is card or (old is not None and old.name == card.name)
        ]
        before, after = (
            sum(self._asked(_skills_of(router, taken), taken).right) for router in (without, among)
        )
        lost = (before - after) / max(len(asked), 1)
        figures["lost_of_other_skills"] = lost
        if lost <= self._tolerances.lost:
            return []
        return [f"{before - after} of {len(asked)} questions of other skills are no longer answered right"]

    def _elsewhere(
        self, without: SkillRouter, among: SkillRouter, card: Card, figures: dict[str, float]
    ) -> list[str]:
        """What the model says to everyday questions, as likely as before."""
        asked = [QAPair(question, "") for question in everyday_questions()]
        found = Elsewhere(self._tolerances)
        taken = _taken(among, card, asked)
        skills = _skills_of(without, taken)
        for skill, pair, said in zip(skills, taken, self._asked(skills, taken).said, strict=True):
            if said:
                answered = QAPair(pair.question, said)
                (tokens, before), (_, after) = (self._logs_with(one, answered) for one in (skill, card))
                found.add(before, after, tokens)
        # Those that are not routed to it are what they were.
        about = f"{len(taken)} of {len(asked)} everyday questions, which would be answered by it,"
        return found.judged(figures, len(taken) / len(asked), about)

    def _beside(self, card: Card, figures: dict[str, float]) -> list[str]:
        """What a text that asks nothing loses while a control is attached."""
        ids = text_ids(self._engine.tokenizer, "\n".join(everyday_questions()))
        ids = ids[: self._engine.metadata.max_position_embeddings]
        nats = []
        for skill in (None, card):
            with self._with(skill):
                nats.append(float(np.mean(self._engine.core.token_nll(ids, 1))))
        figures["perplexity_elsewhere"] = math.exp(nats[1] - nats[0])
        if figures["perplexity_elsewhere"] <= 1 + self._tolerances.risen_beside:
            return []
        return [f"a text that asks nothing has {figures['perplexity_elsewhere']:.3f} times its perplexity"]

    def _sure(self, gains: Numbers) -> float:
        """What the mean gain is at least, in all but few of its resamples."""
        rng = np.random.default_rng(self._seed)
        drawn = rng.integers(0, len(gains), (_RESAMPLES, len(gains)))
        return float(np.quantile(gains[drawn].mean(axis=1), _SURE))


def masked_logs(engine: ArrowEngine, question: str, length: int) -> Numbers:
    """Logarithms of probabilities, [length, vocabulary], in an answer that one pass writes whole."""
    settings, core = engine.diffusion_settings, engine.core
    turn = turn_ids(engine.tokenizer, question, settings.chat_template)
    session = core.session(len(turn) + length, core.cards.in_use(DIFFUSION))
    session.prefill(turn, settings.attention == "causal")
    open_ids = np.full(length, settings.mask_id, np.int32)
    logits = session.predict(open_ids, np.arange(length), logits=True)[-1]
    # Far below all others, and still a number: what is never said counts nothing.
    logits[:, settings.mask_id] = _NEVER
    return log_shares(logits)


def held_out_of(card: Card) -> list[QAPair]:
    """The questions that a card was judged by."""
    return _pairs(card, "held_out")


def learned_of(card: Card) -> list[QAPair]:
    """The questions and answers that a card was learned from; none where it does not hold them all."""
    return _pairs(card, "learned")


def _pairs(card: Card, key: str) -> list[QAPair]:
    found = card.description.config.get(key, [])
    rows: Sequence[Any] = found if isinstance(found, list | tuple) else ()
    return [
        QAPair(*row)
        for row in rows
        if isinstance(row, list | tuple) and len(row) == 2 and all(isinstance(text, str) for text in row)
    ]


def _skills_of(router: SkillRouter, pairs: Sequence[QAPair]) -> list[Card | None]:
    return [route.skill for route in router.routes([pair.question for pair in pairs])]


def _taken(router: SkillRouter, card: Card, pairs: Sequence[QAPair]) -> list[QAPair]:
    """Those that are routed to a card."""
    skills = _skills_of(router, pairs)
    return [pair for pair, skill in zip(pairs, skills, strict=True) if skill is card]
