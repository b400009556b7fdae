"""What a constraint says of a text that is being written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["OPEN", "SPACE", "Constraint", "Runs", "begun"]

Runs = Sequence[str | None]
"""A text on its way: what stands, in order, and `OPEN` wherever something is still to be written."""

OPEN = None
SPACE = " \t\r\n"
"""White space, as JSON has it; the rest of Unicode's is text."""

_MOST_SPACE = 2


class Constraint(ABC):
    """What a text has to satisfy. White space around a text does not count.

    Constraints have no state that a caller could see, and may be shared.
    """

    @abstractmethod
    def energy(self, runs: Runs) -> float:
        """How far a text on its way is from satisfying it: 0 or more.

        0 where nothing is wrong yet. What is missing costs when nothing is open any more, and never before.
        """

    @abstractmethod
    def completion(self, text: str) -> str | None:
        """A short text that makes this one satisfy it; "" where it does, None where nothing can."""

    @abstractmethod
    def violation(self, text: str) -> str | None:
        """What is wrong with a whole text, for a message; None where it satisfies it."""

    def is_lost(self, text: str) -> bool:  # noqa: ARG002
        """Whether nothing behind this text can make it right again. False where that is not known."""
        return False


def begun(text: str) -> str | None:
    """The beginning of a text without white space before it; None where that is more than anyone writes."""
    found = text.lstrip(SPACE)
    return None if len(text) - len(found) > _MOST_SPACE else found
