"""One order of what was found by vectors and by words.

Neither search is the better one everywhere: words find names and identifiers and what a question repeats,
vectors what it says otherwise. Their scores, not their ranks, tell how sure each is, and the question tells
which to believe; what counts how much was fitted (`fusion.json`, by `benchmarks/fusion.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.answers.candidates import words_of
from ai_os_diffusion.answers.names import names_of
from ai_os_diffusion.utils.lazy_property import lazy_property
from ai_os_diffusion.utils.statistics.calibration import Calibration

__all__ = ["Fusion", "fusion_features"]

_FITTED = Path(__file__).with_name("fusion.json")

Scores = NDArray[np.float64]


class Fusion:
    """Orders what two searches found by how likely each answers.

    Args:
        calibration: of the probability that a candidate answers; None takes what is shipped.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self._given = calibration

    @lazy_property
    def calibration(self) -> Calibration:
        """What was fitted."""
        if self._given is not None:
            return self._given
        return Calibration.of(json.loads(_FITTED.read_text(encoding="utf-8"))["calibration"])

    def order(self, question: str, similarities: Sequence[float], scores: Sequence[float]) -> list[int]:
        """Indices of candidates, the likeliest to answer first; equal ones stay in their order.

        Args:
            question: what was asked.
            similarities: cosine of each candidate.
            scores: BM25 of each; 0 where it has none of the question's words.
        """
        chances = [
            self.calibration.probability(own) for own in fusion_features(question, similarities, scores)
        ]
        return sorted(range(len(chances)), key=lambda index: -chances[index])


def fusion_features(
    question: str, similarities: Sequence[float], scores: Sequence[float]
) -> list[Mapping[str, float]]:
    """What is known of each candidate, free of the scales of encoder and store.

    `vector` and `words` are standard scores over the candidates, `vector_place` and `words_place` logarithms
    of places, `both` the product of the standard scores. How sure each search is, and what the question is
    like, counts with its score: `vector_lead` and `words_lead`, how far the best is above the second;
    `words_named`, the share of the question's words that name something; `words_long`, the logarithm of
    their number; `words_held`, the share of the candidates that hold any of them.

    Args:
        question: what was asked.
        similarities: cosine of each candidate.
        scores: BM25 of each.

    Returns:
        For each candidate its features, by name.
    """
    if not similarities:
        return []
    near, told = np.asarray(similarities, np.float64), np.asarray(scores, np.float64)
    vector, words = _standard(near), _standard(told)
    asked = words_of(question)
    named = len(names_of(question)) / max(1, len(asked))
    held = float((told > 0).mean())
    columns = {
        "vector": vector,
        "words": words,
        "vector_place": _places(near),
        "words_place": _places(told),
        "both": vector * words,
        "vector_lead": vector * _lead(vector),
        "words_lead": words * _lead(words),
        "words_named": words * named,
        "words_long": words * math.log1p(len(asked)),
        "words_held": words * held,
    }
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


def _standard(values: Scores) -> Scores:
    """Distances from the mean in standard deviations; 0 where all are equal."""
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)


def _places(values: Scores) -> Scores:
    """Logarithms of places, 0 for the greatest; equal ones share a place."""
    places: Scores = np.log1p((values[:, None] < values[None, :]).sum(1))
    return places


def _lead(values: Scores) -> float:
    """How far the greatest is above the next."""
    first = np.sort(values)[::-1]
    return float(first[0] - first[1]) if len(first) > 1 else 0.0
