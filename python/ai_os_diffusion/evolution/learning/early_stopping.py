"""When a learning has come as far as it will."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.packed import Packed

__all__ = ["EarlyStopping"]

Arrays = Mapping[str, NDArray[Any]]

_BEST = "best/"


class EarlyStopping:
    """Keeps the best factors so far, and says when nothing better has come for some epochs.

    Better is what writes more tokens of the answers to other wordings right. Their loss would stop too soon:
    it goes up again with a few wrong answers that become surer, while ever more are right.

    Args:
        parts: questions in other wordings with their answers.
        patience: looks without a gain after which it stops; 0 keeps the best and never stops.
    """

    def __init__(self, parts: Iterable[Packed], patience: int) -> None:
        self._parts, self._patience = list(parts), patience
        self._weight = sum(float(part.weights.sum()) for part in self._parts)
        self._tokens = sum(int(np.count_nonzero(part.weights)) for part in self._parts)
        self._best: dict[str, NDArray[np.float32]] = {}
        self._right, self._since = -1, 0

    @property
    def is_reached(self) -> bool:
        """Whether to stop."""
        return 0 < self._patience <= self._since

    @property
    def best(self) -> Mapping[str, NDArray[np.float32]]:
        """The factors at the best look; empty before the first."""
        return self._best

    def look(self, trainer: Any) -> dict[str, float]:
        """Measure a native trainer; its `validation_loss` a token, and the share of tokens that are right."""
        loss, right = 0.0, 0
        for part in self._parts:
            found = trainer.measure(part.batch, part.weights, labels=part.labels)
            loss, right = loss + found[0], right + found[1]
        self._since = 0 if right > self._right else self._since + 1
        # Of equals the latest: it was learned longer, at a lower rate.
        if right >= self._right:
            self._best, self._right = trainer.parameters(), right
        return {"validation_loss": loss / self._weight, "validation_right": right / self._tokens}

    def state(self) -> dict[str, NDArray[Any]]:
        """What a learning needs to go on as if it had not been broken off."""
        numbers = {"right": np.array(self._right), "since": np.array(self._since)}
        return {**numbers, **{_BEST + name: array for name, array in self._best.items()}}

    def restore(self, state: Arrays) -> None:
        """Go on from a state."""
        self._right, self._since = int(state["right"]), int(state["since"])
        self._best = {
            name.removeprefix(_BEST): array for name, array in state.items() if name.startswith(_BEST)
        }
