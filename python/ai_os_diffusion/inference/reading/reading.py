"""What a reader finds in a passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Reading", "Span", "mean_reading"]


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a passage that may answer.

    Attributes:
        start: where it begins, in characters of the passage.
        end: where it ends.
        margin: how much its score is above that of "no answer" in the same window, in logits; comparable
            between passages of one question.
    """

    start: int
    end: int
    margin: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One passage, read for one question.

    Attributes:
        spans: the best places, best first; none overlaps another. Empty for a passage without words.
        relevance: how well the passage answers as a whole, a logit; None where the card has no head for it.
    """

    spans: tuple[Span, ...]
    relevance: float | None = None

    @property
    def margin(self) -> float:
        """The margin of the best place; minus infinity where there is none."""
        return self.spans[0].margin if self.spans else float("-inf")


def mean_reading(readings: Sequence[Reading]) -> Reading:
    """One reading of several of the same passage, for a question that was put in several ways.

    A place has the mean of the margins that the readings give it: of a span that overlaps it where they do
    not know it itself, and at most that of their last one where they know none there. So what is found for
    one way of putting the question alone is hardly found.

    Args:
        readings: at least one.
    """
    places = {(span.start, span.end): span for one in readings for span in one.spans}
    rated = [
        Span(start, end, sum(_margin_at(one, start, end) for one in readings) / len(readings))
        for start, end in places
        if all(one.spans for one in readings)
    ]
    kept: list[Span] = []
    for span in sorted(rated, key=lambda span: (-span.margin, span.start, span.end)):
        if all(span.end <= own.start or own.end <= span.start for own in kept):
            kept.append(span)
    told = [one.relevance for one in readings if one.relevance is not None]
    most = max(len(one.spans) for one in readings)
    return Reading(tuple(kept[:most]), sum(told) / len(told) if told else None)


def _margin_at(reading: Reading, start: int, end: int) -> float:
    """The margin that a reading gives a place."""
    same = [span.margin for span in reading.spans if (span.start, span.end) == (start, end)]
    near = [span.margin for span in reading.spans if span.start < end and start < span.end]
    return max(same or near, default=reading.spans[-1].margin)
