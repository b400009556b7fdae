"""How many questions a model answers as it should."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.evolution.learning.structure import structure_of
from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.evolution.skill_router import SkillRouter
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.inference.denoising.turn import text_ids
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.description import DIFFUSION
from ai_os_diffusion.utils.answer_match import plain, word_f1

__all__ = ["ROOM", "SkillTest", "room_of"]

ROOM = 32
"""Tokens of a short answer."""

_THREADS = 8


@dataclass(frozen=True)
class SkillTest:
    """What was asked, and what was said.

    Attributes:
        pairs: the questions and what is expected.
        said: the answers.
    """

    pairs: tuple[QAPair, ...]
    said: tuple[str, ...]

    @classmethod
    def of(
        cls, engine: ArrowEngine, pairs: Iterable[QAPair], mode: str = "ar", room: int = ROOM
    ) -> SkillTest:
        """Ask an engine, with the cards that are attached to it now.

        Args:
            engine: is asked.
            pairs: questions, and what is expected.
            mode: how it writes: "ar" or "diffusion".
            room: most tokens of an answer.
        """
        asked = tuple(pairs)

        def answer(pair: QAPair) -> str:
            if mode == DIFFUSION:
                return str(engine.diffuse(pair.question, max_tokens=room)).strip()
            turn: Message = {"role": "user", "content": pair.question}
            return str(engine.generate(messages=[turn], max_tokens=room)).strip()

        # Texts of several threads share their passes; each uses the cards that are in use here.
        contexts = [copy_context() for _ in asked]
        with ThreadPoolExecutor(_THREADS) as pool:
            said = pool.map(lambda context, pair: context.run(answer, pair), contexts, asked)
            return cls(asked, tuple(said))

    @classmethod
    def routed(cls, engine: ArrowEngine, router: SkillRouter, pairs: Iterable[QAPair]) -> SkillTest:
        """Ask an engine each question with the skill that it is routed to, or none.

        Args:
            engine: is asked.
            router: of its skills.
            pairs: questions, and what is expected.
        """
        asked = tuple(pairs)
        routes = router.routes([pair.question for pair in asked])
        return cls.with_skills(engine, [route.skill for route in routes], asked)

    @classmethod
    def with_skills(
        cls,
        engine: ArrowEngine,
        skills: Sequence[Card | None],
        pairs: Sequence[QAPair],
        mode: str = "ar",
        room: int = ROOM,
    ) -> SkillTest:
        """Ask an engine each question with a skill of its own, or none; those of one skill together.

        Args:
            engine: is asked.
            skills: one for each question.
            pairs: questions, and what is expected.
            mode: as of `of`.
            room: as of `of`.
        """
        said = [""] * len(pairs)
        for skill in dict.fromkeys(skills):
            numbers = [number for number, own in enumerate(skills) if own is skill]
            with nullcontext() if skill is None else engine.using(skill):
                found = cls.of(engine, [pairs[number] for number in numbers], mode, room)
            for number, text in zip(numbers, found.said, strict=True):
                said[number] = text
        return cls(tuple(pairs), tuple(said))

    @property
    def in_structure(self) -> list[bool]:
        """Which answers are built as the expected ones are."""
        return [
            structure_of(said) == structure_of(pair.answer)
            for pair, said in zip(self.pairs, self.said, strict=True)
        ]

    @property
    def right(self) -> list[bool]:
        """For each question whether the answer is the expected one, compared as SQuAD compares."""
        return [plain(pair.answer) == plain(said) for pair, said in zip(self.pairs, self.said, strict=True)]

    @property
    def exact_match(self) -> float:
        """Share of right answers."""
        return sum(self.right) / max(len(self.right), 1)

    @property
    def f1(self) -> float:
        """Mean of the F1 of the words that an answer and the expected one share, as SQuAD counts them."""
        scores = [word_f1(said, pair.answer) for pair, said in zip(self.pairs, self.said, strict=True)]
        return sum(scores) / max(len(scores), 1)


def room_of(engine: ArrowEngine, pairs: Iterable[QAPair]) -> int:
    """Tokens in which an answer as long as the longest expected one has half as much room again."""
    longest = max((len(text_ids(engine.tokenizer, pair.answer)) for pair in pairs), default=0)
    return max(ROOM, longest + longest // 2)
