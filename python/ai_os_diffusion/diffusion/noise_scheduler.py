"""How much is corrupted at which time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion.diffusion.corruption import Corruption
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["SCHEDULES", "NoiseScheduler", "ScheduleName"]

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]
ScheduleName = Literal["linear", "cosine", "loglinear"]

_EPSILON = 1e-3
# Halvings of [0, 1] until its ends are neighbours in float64.
_HALVINGS = 60


def _cosine(t: Floats) -> Floats:
    return 1 - np.cos(np.pi / 2 * t)


SCHEDULES: dict[str, tuple[Curve, Curve, Curve]] = {
    # LLaDA, arXiv:2502.09992.
    "linear": (lambda t: t, lambda rate: rate, np.ones_like),
    # MDLM, arXiv:2406.07524, appendix.
    "cosine": (
        _cosine,
        lambda rate: np.arccos(1 - rate) * 2 / np.pi,
        lambda t: np.pi / 2 * np.sin(np.pi / 2 * t),
    ),
    # SEDD, arXiv:2310.16834: the total noise is -log(1 - (1 - eps) t), finite at t = 1.
    "loglinear": (
        lambda t: (1 - _EPSILON) * t,
        lambda rate: rate / (1 - _EPSILON),
        lambda t: np.full_like(t, 1 - _EPSILON),
    ),
}
"""By name: the share of corrupted positions at a time, its inverse, and its derivative."""


@dataclass(frozen=True)
class NoiseScheduler:
    """A schedule: time 0 is clean, time 1 is noise; a value, without state.

    Attributes:
        mask_rate_at: the share of corrupted positions at a time, rising from 0; a name of `SCHEDULES` gives
            its inverse and derivative too, of another function they are found by numbers.
    """

    mask_rate_at: ScheduleName | Curve = "linear"

    def __post_init__(self) -> None:
        if isinstance(self.mask_rate_at, str):
            if self.mask_rate_at not in SCHEDULES:
                raise SamplingError(
                    f"schedule is {self.mask_rate_at!r}, expected {', '.join(SCHEDULES)} or a function"
                )
            return
        rates = self.mask_rate(np.linspace(0, 1, 257))
        if abs(rates[0]) > 1e-6 or (np.diff(rates) <= 0).any() or rates[-1] > 1 + 1e-6:
            raise SamplingError("a schedule's mask rate rises from 0 at time 0 to at most 1 at time 1")

    def mask_rate(self, t: ArrayLike) -> Floats:
        """Probability that a position is corrupted at time t in [0, 1]."""
        times = _within(t, "t")
        curve = self.mask_rate_at
        return np.asarray(SCHEDULES[curve][0](times) if isinstance(curve, str) else curve(times), np.float64)

    def time_of(self, mask_rate: ArrayLike) -> Floats:
        """The time at which so many positions are corrupted: the inverse of `mask_rate`."""
        rates = _within(mask_rate, "mask_rate")
        if isinstance(self.mask_rate_at, str):
            return np.clip(SCHEDULES[self.mask_rate_at][1](rates), 0.0, 1.0)
        low, high = np.zeros_like(rates), np.ones_like(rates)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_below = self.mask_rate(middle) < rates
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        return (low + high) / 2

    def derivative(self, t: ArrayLike) -> Floats:
        """How fast the mask rate rises at time t."""
        times = _within(t, "t")
        if isinstance(self.mask_rate_at, str):
            return np.asarray(SCHEDULES[self.mask_rate_at][2](times), np.float64)
        step = 1e-5
        below, above = np.clip(times - step, 0, 1), np.clip(times + step, 0, 1)
        return (self.mask_rate(above) - self.mask_rate(below)) / (above - below)

    def loss_weight(self, t: ArrayLike) -> Floats:
        """What the cross-entropy of a masked position counts in the negative ELBO: rate'(t) / rate(t).

        Source: MDLM, arXiv:2406.07524, eq. 10; 1 / t for the linear schedule.
        """
        return self.derivative(t) / self.mask_rate(t)

    def timesteps(self, steps: int, *, last: float = 0.0) -> Floats:
        """Times from 1 down to `last`, at equal distances: float64[steps + 1].

        Raises:
            SamplingError: `steps` is below 1, or `last` outside [0, 1).
        """
        if steps < 1:
            raise SamplingError(f"num_steps is {steps}, expected 1 or more")
        if not 0 <= last < 1:
            raise SamplingError(f"the last time is {last}, expected at least 0 and less than 1")
        return np.linspace(1.0, last, steps + 1)

    def add_noise(
        self, ids: ArrayLike, t: ArrayLike, seed: int, corruption: Corruption
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Corrupt each position by itself.

        Args:
            ids: int[..., length].
            t: one time, or one for each sequence.
            seed: same seed, same noise.
            corruption: what takes a token's place.

        Returns:
            The ids with their noise, and which positions are corrupted.
        """
        clean = np.asarray(ids, np.int32)
        random = np.random.default_rng(seed)
        rates = self.mask_rate(t)
        is_corrupted = random.random(clean.shape) < (rates[..., None] if rates.ndim else rates)
        return np.where(is_corrupted, corruption.replacements(clean, random), clean), is_corrupted


def _within(values: ArrayLike, name: str) -> Floats:
    numbers = np.asarray(values, np.float64)
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise SamplingError(f"{name} is {numbers}, expected numbers from 0 to 1")
    return numbers
