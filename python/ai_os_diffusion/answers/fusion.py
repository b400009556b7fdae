"""One order of what was found by vectors and by words.

Neither search is the better one everywhere: words find names and identifiers and what a question repeats,
vectors what it says otherwise, in the languages that the encoder knows. Their scores, not their ranks, tell
how sure each is; how far the encoder's vocabulary holds the question tells whom to believe. The weights were
chosen on questions of many kinds (`fusion.json`, by `benchmarks/fusion.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fusion"]

_CHOSEN = Path(__file__).with_name("fusion.json")

Scores = NDArray[np.float64]


class Fusion:
    """Orders what two searches found by the sum of their standard scores over the candidates.

    Standard scores are free of the scales of encoder and store, and keep how far a candidate is above the
    others. Those of the words count `whole ** (1 - broken) * split ** broken` times, `broken` being the share
    of the question that the encoder reads in fragments of words: it knows little of what these mean. There it
    counts, `split * broken`, whether the question says the title of a candidate's document: names are the
    same in all languages.

    Args:
        whole: how much words count, where vectors count 1, when no word is broken.
        split: the same when every word is; None: what words are broken into does not count.
    """

    def __init__(self, whole: float, split: float | None = None) -> None:
        self.whole = whole
        self.split = whole if split is None else split
        self._titles = split or 0.0

    @classmethod
    def of(cls, weights_sha256: str | None = None) -> Fusion:
        """What was chosen for an encoder, or what suits most where nobody did.

        Args:
            weights_sha256: digest of the weights that the encoder was converted from.
        """
        chosen = json.loads(_CHOSEN.read_text(encoding="utf-8"))
        own = (row for row in chosen["encoders"] if row["weights_sha256"] == weights_sha256)
        weights = next(own, chosen["others"])
        return cls(weights["whole"], weights["split"])

    def order(
        self,
        similarities: Sequence[float],
        scores: Sequence[float],
        broken: float = 0.0,
        said: Sequence[bool] = (),
    ) -> list[int]:
        """Indices of candidates, the best first; equal ones stay in their order.

        Args:
            similarities: cosine of each candidate.
            scores: BM25 of each; 0 where it has none of the question's words.
            broken: share of the question's tokens that are fragments (`FastTokenizer.broken_share`), 0 to 1.
            said: whether the question says the title of each one's document (`says_title`); none by default.
        """
        weight = self.whole ** (1.0 - broken) * self.split**broken
        found = _standard(similarities) + weight * _standard(scores)
        if said:
            found += self._titles * broken * np.asarray(said, np.float64)
        return [int(index) for index in np.argsort(-found, kind="stable")]


def _standard(values: Sequence[float]) -> Scores:
    """Distances from the mean in standard deviations; 0 where all are equal."""
    array = np.asarray(values, np.float64)
    spread = float(array.std()) if len(array) else 0.0
    return (array - array.mean()) / spread if spread > 1e-9 else np.zeros_like(array)
