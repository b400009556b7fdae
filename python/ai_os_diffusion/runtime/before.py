"""What was said before a message, which it may refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer
    from ai_os_diffusion.answers.recall import RecallHit, RecallResult

__all__ = ["Before", "recalled_together"]


@dataclass(frozen=True, slots=True)
class Before:
    """A question, and what was answered.

    Attributes:
        question: what was asked.
        answer: what was said first; "" where it was declined, which tells a subject all the same.
        passages: where that stands.
    """

    question: str
    answer: str = ""
    passages: tuple[RecallHit, ...] = ()

    @classmethod
    def of(cls, answer: Answer) -> Before:
        """An answer, as what a message after it may refer to."""
        cited = {citation.memory_id for citation in answer.citations[:1]}
        passages = tuple(hit for hit in answer.passages if hit.memory_id in cited)
        return cls(answer.question, answer.text, passages)

    def with_message(self, message: str) -> str:
        """The message behind what it may refer to."""
        return " ".join(part for part in (self.question, self.answer, message) if part)


def recalled_together(
    own: RecallResult, other: RecallResult, passages: tuple[RecallHit, ...]
) -> tuple[RecallHit, ...]:
    """All that was found, each passage once with the better of its similarities, nearest first.

    Args:
        own: what was recalled for a message.
        other: what was recalled for it behind what it may refer to.
        passages: that were cited before.
    """
    found: dict[str, RecallHit] = {}
    for hit in (*own.hits, *other.hits, *passages):
        known = found.get(hit.memory_id)
        if known is None or known.similarity < hit.similarity:
            found[hit.memory_id] = hit
    return tuple(sorted(found.values(), key=lambda hit: -hit.similarity))
