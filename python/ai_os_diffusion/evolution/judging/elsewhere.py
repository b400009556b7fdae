"""How far what a model says elsewhere is from what it said before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.judging.tolerances import Tolerances

__all__ = ["Elsewhere", "log_shares"]

Numbers = NDArray[np.float64]


@dataclass
class Elsewhere:
    """What was said to questions that nothing was learned about, as likely as before.

    Attributes:
        tolerances: what passes.
        nats: by which it became less likely, summed.
        divergence: KL(before ‖ after) of each token, summed.
        tokens: of all that was said.
    """

    tolerances: Tolerances
    nats: float = 0.0
    divergence: float = 0.0
    tokens: int = 0

    def add(self, before: Numbers, after: Numbers, said: NDArray[np.int32]) -> None:
        """Add an answer.

        Args:
            before: float64[n, vocabulary], logarithms of probabilities.
            after: the same, after learning.
            said: int32[n], what was said.
        """
        rows = np.arange(len(said))
        self.nats += float((before[rows, said] - after[rows, said]).sum())
        self.divergence += float((np.exp(before) * (before - after)).sum())
        self.tokens += len(said)

    def judged(
        self, figures: dict[str, float], share: float = 1.0, asked: str = "everyday questions"
    ) -> list[str]:
        """What speaks against it.

        Args:
            figures: take what was measured.
            share: of all that is asked; the rest is said as before.
            asked: what it is.
        """
        tokens = max(self.tokens, 1)
        rise = math.exp(min(self.nats / tokens * share, 700.0))
        divergence = self.divergence / tokens * share
        figures |= {"perplexity_elsewhere": rise, "divergence_elsewhere": divergence}
        faults = []
        if not rise <= 1 + self.tolerances.risen:
            faults.append(f"what is said to {asked} has {rise:.3f} times its perplexity")
        if not divergence <= self.tolerances.diverged:
            faults.append(
                f"what is said to {asked} diverges by {divergence:.3f} nats a token, expected at most "
                f"{self.tolerances.diverged:g}"
            )
        return faults


def log_shares(logits: NDArray[np.float32]) -> Numbers:
    """float64[rows, vocabulary]: logarithms of probabilities."""
    numbers = logits.astype(np.float64)
    numbers -= numbers.max(axis=1, keepdims=True)
    return np.asarray(numbers - np.log(np.exp(numbers).sum(axis=1, keepdims=True)))
