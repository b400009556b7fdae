"""How likely an answer is right, as the reader's card says it was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.answers.candidates import Candidate
from ai_os_diffusion.utils.errors import CardError, ConfigurationError
from ai_os_diffusion.utils.statistics.calibration import Calibration

__all__ = ["Judge", "Judged"]

_KEY = "answers"
_LIKELIER_RIGHT = 0.5
_PRICE_OF_A_FURTHER_ONE = 0.15
"""What it costs to read an answer beside the first, where a right one is worth 1."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer and how likely it is right.

    Attributes:
        candidate: the answer.
        confidence: calibrated probability of being right; None where nothing was calibrated.
    """

    candidate: Candidate
    confidence: float | None


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

    def ranked(self, found: Sequence[Candidate]) -> list[Judged]:
        """Answers, the likeliest to be right first."""
        if self.calibration is None:
            return [Judged(one, None) for one in found]
        rated = [(self.calibration.probability(one.features), one) for one in found]
        rated.sort(key=lambda pair: -pair[0])
        return [Judged(one, chance) for chance, one in rated]

    def is_worth_showing(self, judged: Judged, shown: Sequence[Judged]) -> bool:
        """Whether an answer may be shown beside others.

        The first must reach the threshold. A further one may be right as well, as both sides of a comparison
        are: that must be likelier than not. Or all before it are wrong and it is right: that must be as
        likely as reading it costs. Where nothing was calibrated, the first is shown if it is above "none".

        Args:
            judged: the answer.
            shown: those that stand before it, which differ from it.
        """
        if judged.confidence is None:
            return not shown and judged.candidate.margin > 0
        if not shown:
            return judged.confidence >= self.threshold
        all_wrong = math.prod(1.0 - (one.confidence or 0.0) for one in shown)
        is_likely = judged.confidence >= max(self.threshold, _LIKELIER_RIGHT)
        return is_likely or all_wrong * judged.confidence >= _PRICE_OF_A_FURTHER_ONE
