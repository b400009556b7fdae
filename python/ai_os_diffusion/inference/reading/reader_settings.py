"""How a reader card wants to be read with: what it was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import CardError

__all__ = ["ReaderSettings"]

_LONGEST = 8192


@dataclass(frozen=True)
class ReaderSettings:
    """Of a card, under `reading` in its `config`.

    Attributes:
        head: name of the head: start and end of a span for each token, and, where it has three outputs, the
            relevance of the passage at the first.
        question_tokens: at which questions are cut.
        window_tokens: of a passage that are read together with the question.
        overlap_tokens: that two windows share.
        span_tokens: most of an answer.
    """

    head: str = "qa_outputs"
    question_tokens: int = 40
    window_tokens: int = 300
    overlap_tokens: int = 100
    span_tokens: int = 30

    @classmethod
    def of(cls, config: Mapping[str, Any], place: str) -> ReaderSettings:
        """Read what a card says; what it does not say is as it is above.

        Args:
            config: of the card.
            place: names the card in errors.

        Raises:
            CardError: a value is of another type or out of range.
        """
        values = UntrustedValues(f"{place}: config", config, CardError).section("reading")
        own = cls()
        window = values.integer("window_tokens", own.window_tokens, low=2, high=_LONGEST)
        return cls(
            head=values.text("head", own.head),
            question_tokens=values.integer("question_tokens", own.question_tokens, low=1, high=_LONGEST),
            window_tokens=window,
            overlap_tokens=values.integer(
                "overlap_tokens", min(own.overlap_tokens, window // 2), low=0, high=window - 1
            ),
            span_tokens=values.integer("span_tokens", own.span_tokens, low=1, high=_LONGEST),
        )

    def to_dict(self) -> dict[str, Any]:
        """As a card says it."""
        return asdict(self)
