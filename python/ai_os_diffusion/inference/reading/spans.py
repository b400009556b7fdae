"""Scores of tokens to spans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_spans"]

Scores = NDArray[np.float32]


def best_spans(scores: Scores, longest: int, most: int) -> list[tuple[int, int, float]]:
    """The spans with the greatest sums of a start's and an end's score, none overlapping a better one.

    Args:
        scores: float32[tokens, 2], of each token as the first and as the last of a span.
        longest: tokens of a span at most.
        most: spans to return at most.

    Returns:
        First token, last token and sum of each, best first.
    """
    count = len(scores)
    start, end = scores[:, 0], scores[:, 1]
    # Row `d` has the spans of `d + 1` tokens, by their first.
    sums = np.full((min(longest, count), count), -np.inf, np.float32)
    for more, row in enumerate(sums):
        row[: count - more] = start[: count - more] + end[more:]
    found: list[tuple[int, int, float]] = []
    while len(found) < most:
        more, first = divmod(int(sums.argmax()), count)
        best = float(sums[more, first])
        if best == -np.inf:
            break
        last = first + more
        found.append((first, last, best))
        for length, row in enumerate(sums):
            row[max(0, first - length) : last + 1] = -np.inf
    return found
