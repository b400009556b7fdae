"""How likely a text is wrong, by how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ai_os_diffusion.utils.statistics.calibration import Calibration

__all__ = ["Trajectory", "UncertaintyEstimator"]

_LEAST = 1e-30


@dataclass(frozen=True)
class Trajectory:
    """How a text was written, token by token, its end included.

    Attributes:
        confidences: float[n], probability of each token when it was committed.
        entropies: float[n], nats of the distribution it was taken from; empty where they are not known.
        first_entropies: float[m], nats at all positions it might have taken, before any of it was written;
            empty where it was written from left to right.
        passes: forward passes that wrote it; from left to right one a token.
        revisions: how often a token was taken back or replaced.
    """

    confidences: ArrayLike
    entropies: ArrayLike = ()
    first_entropies: ArrayLike = ()
    passes: int = 0
    revisions: int = 0

    def features(self) -> dict[str, float]:
        """What it shows, by name; nothing for a text without tokens.

        `surprise` is the negative logarithm of the product of all confidences, `mean_surprise` and
        `most_surprise` those of a token.
        """
        confidences = np.maximum(np.asarray(self.confidences, np.float64), _LEAST)
        if not len(confidences):
            return {}
        surprise = -np.log(confidences)
        found = {
            "surprise": np.log1p(surprise.sum()),
            "mean_surprise": np.log1p(surprise.mean()),
            "most_surprise": np.log1p(surprise.max()),
            "length": np.log(len(confidences)),
            "revisions": np.log1p(self.revisions),
        }
        if self.passes:
            found["passes"] = np.log(self.passes)
        entropies = np.asarray(self.entropies, np.float64)
        if len(entropies):
            found["entropy"] = np.log1p(entropies.sum())
            found["most_entropy"] = np.log1p(entropies.max())
        first = np.asarray(self.first_entropies, np.float64)
        if len(first):
            found["first_entropy"] = np.log1p(first.sum())
        return {name: float(value) for name, value in found.items()}


class UncertaintyEstimator:
    """One calibrated probability of being wrong.

    Args:
        calibration: fitted on texts of the same model, mode and kind.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> UncertaintyEstimator | None:
        """From what a model says of its calibration; None where it says nothing.

        Raises:
            ConfigurationError: it is none.
        """
        return None if config is None else cls(Calibration.of(config))

    def __call__(self, trajectory: Trajectory, **evidence: float) -> float:
        """The probability that a text is wrong.

        Args:
            trajectory: how it was written.
            **evidence: what else is known of it, by the names that the calibration was fitted with; what is
                not given counts as its mean, and what the calibration does not know counts for nothing.
        """
        found = {**trajectory.features(), **evidence}
        return self.calibration.probability(found)

    def should_evolve(self, trajectory: Trajectory, threshold: float = 0.5, **evidence: float) -> bool:
        """Whether a text is so likely wrong that it is worth learning from its correction."""
        return self(trajectory, **evidence) >= threshold
