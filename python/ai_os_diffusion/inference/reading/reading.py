"""What a reader finds in a passage."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reading", "Span"]


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
