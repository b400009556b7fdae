"""Constraints that a text has to satisfy together, and texts that are drawn until one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ai_os_diffusion.inference.constraints.constraint import Constraint, Runs
from ai_os_diffusion.inference.constraints.phrases import Banned, Required
from ai_os_diffusion.utils.errors import ConstraintError, SamplingError

__all__ = ["GROWTH", "ConstraintSet", "Drawing"]

GROWTH = 4
"""By which the weight of energies, and the number of candidates, grow with each attempt."""

_ENERGY, _ATTEMPTS = 32.0, 4
_MOST_ENERGY, _MOST_CONSTRAINTS, _MOST_ATTEMPTS = 1e6, 64, 16

Text = TypeVar("Text", bound=str)


class ConstraintSet:
    """Constraints that hold together.

    Args:
        constraints: at least one.

    Raises:
        SamplingError: there are none or too many, or a phrase is both required and banned.
    """

    def __init__(self, constraints: Constraint | Sequence[Constraint]) -> None:
        self.items = (constraints,) if isinstance(constraints, Constraint) else tuple(constraints)
        wrong = next((one for one in self.items if not isinstance(one, Constraint)), None)
        if wrong is not None or not 0 < len(self.items) <= _MOST_CONSTRAINTS:
            raise SamplingError(
                f"constraints: expected 1 to {_MOST_CONSTRAINTS} of Banned, Required, Matches and "
                f"FollowsSchema, got {len(self.items) if wrong is None else repr(wrong)[:80]}"
            )
        self.required = tuple(
            phrase for one in self.items if isinstance(one, Required) for phrase in one.phrases
        )
        for phrase in self.required:
            for one in self.items:
                if isinstance(one, Banned) and (why := one.violation(phrase)):
                    raise SamplingError(
                        f"constraints contradict each other: {phrase!r} is required, and {why}"
                    )

    def energy(self, runs: Runs) -> float:
        """The sum of their energies."""
        return sum(one.energy(runs) for one in self.items)

    def completions(self, text: str) -> list[str | None]:
        """What each lacks at the end of a text; see `Constraint.completion`."""
        return [one.completion(text) for one in self.items]

    def is_lost(self, text: str) -> bool:
        """Whether some text that begins so cannot satisfy them, as far as that is known."""
        return any(one.is_lost(text) for one in self.items)

    def is_blocked(self, text: str) -> bool:
        """Whether a required phrase that is missing cannot follow at once without losing the text."""
        lacking = [one.completion(text) for one in self.items if isinstance(one, Required)]
        return any(self.is_lost(text + one) for one in lacking if one)

    def violations(self, text: str) -> list[str]:
        """What is wrong with a whole text."""
        return [found for one in self.items if (found := one.violation(text))]

    def missing(self, runs: Sequence[str]) -> list[str]:
        """Required phrases that occur in none of some texts."""
        return [one for own in self.items if isinstance(own, Required) for one in own.missing(runs)]


@dataclass(frozen=True)
class Drawing:
    """How texts are drawn until one satisfies constraints.

    Attributes:
        constraints: those.
        energy: what an energy of one takes off a score in the first attempt, in nats; each attempt that
            follows has four times the weight of the one before, and looks at four times as many candidates.
        attempts: texts to draw at most.
    """

    constraints: ConstraintSet
    energy: float
    attempts: int

    @classmethod
    def of(cls, constraints: Any, energy: Any, attempts: Any) -> Drawing | None:
        """What was asked for, None for the defaults; None where there are no constraints.

        Raises:
            SamplingError: a setting is out of range, or belongs to constraints that are not there.
        """
        if energy is not None and not (_is_number(energy) and 0 <= energy <= _MOST_ENERGY):
            raise SamplingError(f"energy is {energy!r}, expected 0 to {_MOST_ENERGY} nats")
        if attempts is not None and not (type(attempts) is int and 1 <= attempts <= _MOST_ATTEMPTS):
            raise SamplingError(f"attempts is {attempts!r}, expected 1 to {_MOST_ATTEMPTS}")
        if constraints is None:
            if energy is not None or attempts is not None:
                raise SamplingError("energy and attempts belong to constraints; give some, or leave them out")
            return None
        return cls(
            ConstraintSet(constraints),
            _ENERGY if energy is None else float(energy),
            _ATTEMPTS if attempts is None else attempts,
        )

    def drawn(self, draw: Callable[[int, float], Text]) -> Text:
        """Draw a text until one satisfies the constraints.

        Args:
            draw: a text of an attempt, from 0, with a weight of energies.

        Raises:
            ConstraintError: none did. It holds the text that violated fewest, and what it violates.
        """
        nearest: tuple[Text, list[str]] | None = None
        for attempt in range(self.attempts):
            text = draw(attempt, self.energy * GROWTH**attempt)
            violations = self.constraints.violations(text)
            if not violations:
                return text
            if nearest is None or len(violations) < len(nearest[1]):
                nearest = text, violations
        assert nearest is not None
        raise ConstraintError(nearest[0], nearest[1], self.attempts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
