"""How likely an answer is right, as the reader's card says it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.answers.candidates import Candidate
from ai_os_diffusion.utils.errors import CardError, ConfigurationError
from ai_os_diffusion.utils.statistics.calibration import Calibration

__all__ = ["Judge", "Judged"]

_KEY = "answers"
_LIKELIER_RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer and how likely it is right.

    Attributes:
        candidate: the answer.
        confidence: calibrated probability of being right; None where nothing was calibrated.
        is_believed: it may be shown.
    """

    candidate: Candidate
    confidence: float | None
    is_believed: bool


@dataclass(frozen=True)
class Judge:
    """Ranks answers, and says which may be shown.

    Attributes:
        calibration: of the probability of being right, by the features of a `Candidate`; None for a card
            that has none: answers are ranked by margin then, and those above "no answer" are believed.
        threshold: probability that the first answer must reach.
    """

    calibration: Calibration | None = None
    threshold: float = _LIKELIER_RIGHT

    @classmethod
    def of(cls, config: Mapping[str, Any], place: str) -> Judge:
        """Read what a card says, under `answers` in its `config`.

        Args:
            config: of the card.
            place: names the card in errors.

        Raises:
            CardError: it is no calibration and threshold.
        """
        told = config.get(_KEY)
        if told is None:
            return cls()
        try:
            threshold = float(told["threshold"])
            judge = cls(Calibration.of(told["calibration"]), threshold)
        except (KeyError, TypeError, ValueError, ConfigurationError) as error:
            raise CardError(
                f"{place}: config: {_KEY}: expected a calibration and a threshold, got {error!r}"
            ) from error
        if not 0 <= threshold <= 1:
            raise CardError(f"{place}: config: {_KEY}: threshold is {threshold}, expected 0 to 1")
        return judge

    def to_config(self) -> dict[str, Any]:
        """As a card says it."""
        if self.calibration is None:
            return {}
        return {_KEY: {"calibration": self.calibration.to_dict(), "threshold": self.threshold}}

    @property
    def further(self) -> float:
        """Probability that an answer beside the first must reach."""
        return max(self.threshold, _LIKELIER_RIGHT)

    def ranked(self, found: Sequence[Candidate]) -> list[Judged]:
        """Answers, the likeliest to be right first.

        The first is believed when it reaches the threshold. A further one, which differs from it, must be
        likelier right than wrong as well.
        """
        if self.calibration is None:
            return [Judged(one, None, not number and one.margin > 0) for number, one in enumerate(found)]
        rated = [(self.calibration.probability(one.features), one) for one in found]
        rated.sort(key=lambda pair: -pair[0])
        return [
            Judged(
                one,
                chance,
                chance >= (self.further if number else self.threshold),
            )
            for number, (chance, one) in enumerate(rated)
        ]
