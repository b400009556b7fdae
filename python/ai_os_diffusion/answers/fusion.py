"""One order of what was found by vectors and by words.

Neither search is the better one everywhere: words find names and identifiers and what a question repeats,
vectors what it says otherwise. Their scores, not their ranks, tell how sure each is; how much words count was
chosen on questions of many kinds (`fusion.json`, by `benchmarks/fusion.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.lazy_property import lazy_property

__all__ = ["Fusion"]

_CHOSEN = Path(__file__).with_name("fusion.json")

Scores = NDArray[np.float64]


class Fusion:
    """Orders what two searches found by the sum of their standard scores over the candidates.

    Standard scores are free of the scales of encoder and store, and keep how far a candidate is above the
    others.

    Args:
        words_weight: of the words' standard score; None takes what is shipped.
    """

    def __init__(self, words_weight: float | None = None) -> None:
        self._given = words_weight

    @lazy_property
    def words_weight(self) -> float:
        """How much words count, where vectors count 1."""
        if self._given is not None:
            return self._given
        return float(json.loads(_CHOSEN.read_text(encoding="utf-8"))["words_weight"])

    def order(self, similarities: Sequence[float], scores: Sequence[float]) -> list[int]:
        """Indices of candidates, the best first; equal ones stay in their order.

        Args:
            similarities: cosine of each candidate.
            scores: BM25 of each; 0 where it has none of the question's words.
        """
        found = _standard(similarities) + self.words_weight * _standard(scores)
        return [int(index) for index in np.argsort(-found, kind="stable")]


def _standard(values: Sequence[float]) -> Scores:
    """Distances from the mean in standard deviations; 0 where all are equal."""
    array = np.asarray(values, np.float64)
    spread = float(array.std()) if len(array) else 0.0
    return (array - array.mean()) / spread if spread > 1e-9 else np.zeros_like(array)
