"""Memories that a text is written from, and how strongly it is held to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Condition", "MemoryConditioner", "Recalled"]


class Recalled(Protocol):
    """A memory that was found: its text, and how near it is to the query; at most 1."""

    @property
    def text(self) -> str:
        """What it says."""
        ...

    @property
    def similarity(self) -> float:
        """Cosine to the query."""
        ...


@dataclass(frozen=True)
class Condition:
    """What a text is written from.

    Attributes:
        passages: texts for the prompt, the nearest one last, next to the question.
        memories: where they come from, nearest first.
        strength: how good what was found is, from 0 (nothing) to 1: the share of the way from the threshold
            to the question itself that the nearest memory goes.
    """

    passages: tuple[str, ...] = ()
    memories: tuple[Recalled, ...] = ()
    strength: float = 0.0

    def guidance_scale(self, scale: float) -> float:
        """A guidance scale for this condition: strong hits pull as told, weak ones hardly."""
        return 1.0 + (scale - 1.0) * self.strength


class MemoryConditioner:
    """Turns a query into a condition.

    Args:
        recall: finds memories of a query, nearest first; called with the query and how many are wanted.
        count: tokens of a text.
        budget: tokens of all passages together.
        most: passages at most.
        threshold: similarity below which a memory is ignored; None ignores none.

    Raises:
        SamplingError: `budget` or `most` leaves no room for a passage.
    """

    def __init__(
        self,
        recall: Callable[[str, int], Sequence[Recalled]],
        *,
        count: Callable[[str], int],
        budget: int = 1024,
        most: int = 5,
        threshold: float | None = None,
    ) -> None:
        if budget < 1 or most < 1:
            raise SamplingError(f"budget is {budget} tokens, most is {most} passages; expected 1 or more")
        self._recall, self._count = recall, count
        self._budget, self._most, self._threshold = budget, most, threshold

    def condition(self, query: str) -> Condition:
        """What memory holds on a query.

        A memory whose text stands in another that was taken is passed over, and one that the budget does not
        hold too: a smaller one behind it may fit.
        """
        least = 0.0 if self._threshold is None else self._threshold
        taken: dict[str, Recalled] = {}
        left = self._budget
        for memory in self._recall(query, self._most):
            text = memory.text.strip()
            is_weak = self._threshold is not None and memory.similarity < least
            if not text or is_weak or len(taken) == self._most or any(text in other for other in taken):
                continue
            size = self._count(text)
            if size <= left:
                taken[text] = memory
                left -= size
        if not taken:
            return Condition()
        nearest = max(memory.similarity for memory in taken.values())
        strength = (nearest - least) / (1.0 - least) if least < 1.0 else 1.0
        return Condition(tuple(reversed(taken)), tuple(taken.values()), min(max(strength, 0.0), 1.0))
