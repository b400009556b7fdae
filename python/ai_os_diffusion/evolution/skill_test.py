"""How many questions a model answers as it should."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.evolution.qa_pairs import QAPair
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards.description import DIFFUSION

__all__ = ["SkillTest", "plain"]

_ROOM = 32
_THREADS = 8
_ARTICLES = re.compile(r"\b(a|an|the)\b")


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
        scores = [_f1(pair.answer, said) for pair, said in zip(self.pairs, self.said, strict=True)]
        return sum(scores) / max(len(scores), 1)


def _f1(expected: str, said: str) -> float:
    words, own = Counter(plain(expected).split()), Counter(plain(said).split())
    # Without any words both have to be so.
    return 2 * (words & own).total() / (words.total() + own.total()) if words or own else 1.0


def plain(text: str) -> str:
    """A text as SQuAD compares: without case, punctuation and articles."""
    letters = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", letters).split())
