"""How many questions a model answers as it should."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards.description import DIFFUSION
from ai_os_diffusion.utils.answer_match import plain, word_f1

__all__ = ["SkillTest"]

_ROOM = 32
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
    def of(cls, engine: ArrowEngine, pairs: Iterable[QAPair], mode: str = "ar") -> SkillTest:
        """Ask an engine, with the cards that are attached to it now.

        Args:
            engine: is asked.
            pairs: questions, and what is expected.
            mode: how it writes: "ar" or "diffusion".
        """
        asked = tuple(pairs)

        def answer(pair: QAPair) -> str:
            if mode == DIFFUSION:
                return str(engine.diffuse(pair.question, max_tokens=_ROOM)).strip()
            turn: Message = {"role": "user", "content": pair.question}
            return str(engine.generate(messages=[turn], max_tokens=_ROOM)).strip()

        # Texts of several threads share their passes; each uses the cards that are in use here.
        contexts = [copy_context() for _ in asked]
        with ThreadPoolExecutor(_THREADS) as pool:
            said = pool.map(lambda context, pair: context.run(answer, pair), contexts, asked)
            return cls(asked, tuple(said))

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
