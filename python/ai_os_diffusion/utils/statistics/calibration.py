"""A probability from features: a logistic regression that was fitted to what was judged, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["Calibration", "Feature"]

Vector = NDArray[np.float64]

_ROUNDS = 100
_PENALTY = 1.0
"""Of the squared weights of standardised features: a feature that tells nothing gets none."""


@dataclass(frozen=True)
class Feature:
    """A feature's part in a calibration.

    Attributes:
        mean: of the data that was fitted. scale: its standard deviation.
        weight: log-odds of the event for each scale above the mean.
    """

    mean: float
    scale: float
    weight: float


@dataclass(frozen=True)
class Calibration:
    """A logistic regression from features to the probability of an event, as data: of being wrong, or right.

    Attributes:
        bias: log-odds where every feature is at its mean.
        features: by name.
    """

    bias: float
    features: Mapping[str, Feature] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        examples: Sequence[Mapping[str, float]],
        labels: Sequence[bool],
        weights: Sequence[float] | None = None,
    ) -> Calibration:
        """Fit to examples that were judged, by iteratively reweighted least squares with a ridge penalty.

        Args:
            examples: features of each; what one lacks counts as the mean.
            labels: for each, whether the event happened; both must occur.
            weights: how much each counts, above 0; None counts all once.

        Raises:
            ConfigurationError: there are no examples of one kind, or not a weight for each.
        """
        happened = np.asarray(labels, bool)
        if len(examples) != len(happened) or happened.all() or not happened.any():
            raise ConfigurationError(
                f"the event happened in {int(happened.sum())} of {len(examples)} examples; expected examples "
                "of both kinds"
            )
        counted = np.ones(len(happened)) if weights is None else np.asarray(weights, np.float64)
        if counted.shape != happened.shape or not (counted > 0).all():
            raise ConfigurationError(f"expected {len(happened)} weights above 0, one for each example")
        names = sorted({name for example in examples for name in example})
        values = np.array([[example.get(name, np.nan) for name in names] for example in examples])
        means = np.nanmean(values, 0)
        scales = np.nanstd(values, 0)
        # Not by the deviation, which of equal values is that of rounding.
        told = np.nanmax(values, 0) > np.nanmin(values, 0)
        names = [name for name, tells in zip(names, told, strict=True) if tells]
        means, scales = means[told], scales[told]
        rows = np.nan_to_num((values[:, told] - means) / scales)
        fitted = _logistic(np.column_stack([np.ones(len(rows)), rows]), happened.astype(np.float64), counted)
        features = {
            name: Feature(float(mean), float(scale), float(weight))
            for name, mean, scale, weight in zip(names, means, scales, fitted[1:], strict=True)
        }
        return cls(float(fitted[0]), features)

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

    def probability(self, features: Mapping[str, float]) -> float:
        """The probability of the event.

        Args:
            features: by name; what is not given counts as its mean, and what was not fitted for nothing.
        """
        odds = self.bias
        for name, own in self.features.items():
            if name in features:
                odds += own.weight * (features[name] - own.mean) / own.scale
        return float(1.0 / (1.0 + np.exp(-np.clip(odds, -60.0, 60.0))))


def _logistic(rows: Vector, happened: Vector, counted: Vector) -> Vector:
    """Weights of a logistic regression; the first, the bias, is not penalised."""
    penalty = np.full(rows.shape[1], _PENALTY)
    penalty[0] = 1e-9
    weights = np.zeros(rows.shape[1])
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ weights, -60.0, 60.0)))
        slope = rows.T @ (counted * (happened - chance)) - penalty * weights
        curvature = (rows * (counted * chance * (1.0 - chance))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return weights
