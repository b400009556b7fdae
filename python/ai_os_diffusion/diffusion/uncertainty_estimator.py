"""How likely a text is wrong, by how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["Calibration", "Feature", "Trajectory", "UncertaintyEstimator"]

Vector = NDArray[np.float64]

_LEAST = 1e-30
_ROUNDS = 100
_PENALTY = 1.0
"""Of the squared weights of standardised features: a feature that tells nothing gets none."""


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


@dataclass(frozen=True)
class Feature:
    """A feature's part in a calibration.

    Attributes:
        mean: of the data that was fitted. scale: its standard deviation.
        weight: log-odds of being wrong for each scale above the mean.
    """

    mean: float
    scale: float
    weight: float


@dataclass(frozen=True)
class Calibration:
    """A logistic regression from features to the probability of being wrong, as data.

    Attributes:
        bias: log-odds where every feature is at its mean.
        features: by name.
    """

    bias: float
    features: Mapping[str, Feature] = field(default_factory=dict)

    @classmethod
    def fit(cls, examples: Sequence[Mapping[str, float]], is_wrong: Sequence[bool]) -> Calibration:
        """Fit to texts that were judged, by iteratively reweighted least squares with a ridge penalty.

        Args:
            examples: features of each text; what a text lacks counts as the mean.
            is_wrong: for each, whether it was wrong; both must occur.

        Raises:
            ConfigurationError: there are no texts of one kind.
        """
        wrong = np.asarray(is_wrong, bool)
        if len(examples) != len(wrong) or wrong.all() or not wrong.any():
            raise ConfigurationError(
                f"{int(wrong.sum())} of {len(examples)} texts are wrong; expected right ones and wrong ones"
            )
        names = sorted({name for example in examples for name in example})
        values = np.array([[example.get(name, np.nan) for name in names] for example in examples])
        means = np.nanmean(values, 0)
        scales = np.nanstd(values, 0)
        # Not by the deviation, which of equal values is that of rounding.
        told = np.nanmax(values, 0) > np.nanmin(values, 0)
        names = [name for name, tells in zip(names, told, strict=True) if tells]
        means, scales = means[told], scales[told]
        rows = np.nan_to_num((values[:, told] - means) / scales)
        weights = _logistic(np.column_stack([np.ones(len(rows)), rows]), wrong.astype(np.float64))
        features = {
            name: Feature(float(mean), float(scale), float(weight))
            for name, mean, scale, weight in zip(names, means, scales, weights[1:], strict=True)
        }
        return cls(float(weights[0]), features)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` wrote.

        Raises:
            ConfigurationError: it is none.
        """
        try:
            features = {
                str(name): Feature(*(float(own[key]) for key in ("mean", "scale", "weight")))
                for name, own in config["features"].items()
            }
            found = cls(float(config["bias"]), features)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"calibration: expected a bias and features with mean, scale and weight, got {error!r}"
            ) from error
        numbers = [found.bias, *(value for one in features.values() for value in asdict(one).values())]
        if not np.isfinite(numbers).all() or any(one.scale <= 0 for one in features.values()):
            raise ConfigurationError("calibration: expected finite numbers, and scales above 0")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


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
        odds = self.calibration.bias
        for name, own in self.calibration.features.items():
            if name in found:
                odds += own.weight * (found[name] - own.mean) / own.scale
        return float(1.0 / (1.0 + np.exp(-np.clip(odds, -60.0, 60.0))))

    def should_evolve(self, trajectory: Trajectory, threshold: float = 0.5, **evidence: float) -> bool:
        """Whether a text is so likely wrong that it is worth learning from its correction."""
        return self(trajectory, **evidence) >= threshold


def _logistic(rows: Vector, wrong: Vector) -> Vector:
    """Weights of a logistic regression; the first, the bias, is not penalised."""
    penalty = np.full(rows.shape[1], _PENALTY)
    penalty[0] = 1e-9
    weights = np.zeros(rows.shape[1])
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ weights, -60.0, 60.0)))
        slope = rows.T @ (wrong - chance) - penalty * weights
        curvature = (rows * (chance * (1.0 - chance))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return weights
