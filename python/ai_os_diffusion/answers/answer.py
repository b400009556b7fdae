"""What `ask` says, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.answers.excerpts import Excerpt, Sentence
from ai_os_diffusion.answers.recall import RecallResult

__all__ = ["Answer", "Citation"]


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that supports an answer.

    Attributes:
        source: document of the passage. page: of a PDF. part: file within it, as of a `RecallHit`.
        line: line of the quoted sentence. end_line: last line of the passage.
        memory_id: id of the memory.
        similarity: cosine of passage and question.
        headings: titles above the passage, outermost first.
        support: share of what the answer adds to the question that the quote holds; 1 for a quoted answer.
        quote: the sentence of the passage that holds the answer.
        unreadable_since: since when the document could not be looked up, as of a `RecallHit`.
    """

    source: str
    line: int | None
    end_line: int | None
    page: int | None
    memory_id: str
    similarity: float
    headings: tuple[str, ...]
    support: float
    quote: str
    unreadable_since: str = ""
    part: str = ""

    @classmethod
    def of(cls, sentence: Sentence, support: float) -> Citation:
        """Cite a sentence for what it holds of an answer."""
        hit = sentence.hit
        return cls(
            source=hit.source,
            line=sentence.line,
            end_line=hit.end_line,
            page=hit.page,
            memory_id=hit.memory_id,
            similarity=hit.similarity,
            headings=hit.headings,
            support=support,
            quote=_shortened(sentence.text),
            unreadable_since=hit.unreadable_since,
            part=hit.part,
        )

    def to_dict(self) -> dict[str, Any]:
        """The citation as JSON-able values."""
        return {
            "source": self.source,
            "line": self.line,
            "end_line": self.end_line,
            "page": self.page,
            "part": self.part,
            "memory_id": self.memory_id,
            "similarity": round(self.similarity, 6),
            "headings": list(self.headings),
            "support": round(self.support, 4),
            "quote": self.quote,
            "unreadable_since": self.unreadable_since,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What `ask` says.

    Attributes:
        question: the question.
        text: the answer; "" when it abstained. Every sentence of it is supported by a passage, or is one.
        is_quote: it is made of sentences of the passages, word by word; so it is where nothing that the
            model wrote was supported.
        citations: where it stands, in the order of the text; none only when it abstained.
        confidence: from 0 to 1: of a text by diffusion the calibrated probability of being right, else see
            `confidence`.
        abstained: memory holds nothing that fits, or the passages do not answer.
        passages: what the model was given and what could be quoted, nearest first.
        nearest: similarity of the best hit. threshold: what it had to reach.
        mode: how it came about: "ar", "diffusion", or "quote".
        uncertainty: calibrated probability that what the model wrote by diffusion is wrong, also where it is
            not shown; None where nothing was, or no calibration is there.
    """

    question: str
    text: str
    is_quote: bool
    citations: tuple[Citation, ...]
    confidence: float
    abstained: bool
    passages: tuple[Excerpt, ...]
    nearest: float | None
    threshold: float | None
    mode: str
    uncertainty: float | None = None

    @classmethod
    def abstention(
        cls, found: RecallResult, confidence: float = 0.0, uncertainty: float | None = None
    ) -> Answer:
        """The answer when memory holds nothing that fits, or what it holds is no answer.

        Args:
            found: what was recalled.
            confidence: of a model that read it, that it is none.
            uncertainty: that the model is wrong in this.
        """
        return cls(
            found.question,
            "",
            False,
            (),
            confidence,
            True,
            (),
            found.nearest,
            found.threshold,
            "quote",
            uncertainty,
        )

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-able values."""
        return {
            "question": self.question,
            "answer": self.text,
            "is_quote": self.is_quote,
            "mode": self.mode,
            "abstained": self.abstained,
            "confidence": round(self.confidence, 4),
            "uncertainty": None if self.uncertainty is None else round(self.uncertainty, 4),
            "citations": [citation.to_dict() for citation in self.citations],
            "passages": [excerpt.to_dict() for excerpt in self.passages],
            "nearest": None if self.nearest is None else round(self.nearest, 6),
            "threshold": self.threshold,
        }


def _shortened(sentence: str, longest: int = 240) -> str:
    return sentence if len(sentence) <= longest else sentence[: longest - 1].rsplit(" ", 1)[0] + "…"
