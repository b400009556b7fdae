"""What `ask` says, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ai_os_diffusion.answers.candidates import Place
from ai_os_diffusion.answers.passage_block import PassageBlock
from ai_os_diffusion.answers.recall import RecallHit, RecallResult

__all__ = ["Answer", "Citation", "Mode", "Reason", "Statement"]

Mode = Literal["reader", "nearest", "ar", "diffusion"]
"""How an answer came about: pointed at by a reader, the nearest part of a passage unread, or written by a
model and found in the passages."""

Reason = Literal["nothing", "far", "unknown_names", "no_answer", "declined"]
"""Why nothing is answered: there are no memories to compare; none is near; names of the question stand in
none that is; those that are near do not answer; the model that was asked says that they do not."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A place that an answer stands at.

    Attributes:
        source: document of the passage. page: of a PDF. part: file within it, as of a `RecallHit`.
        line: line of the answer. end_line: last line of the quote.
        memory_id: id of the memory.
        similarity: cosine of passage and question.
        headings: titles above the passage, outermost first.
        quote: the part of the passage that can be understood by itself and holds the answer: its sentence,
            list item, row of a table below the names of the columns, or a term with its description.
        start: where in the quote the answer begins, in characters. end: where it ends. Both 0 where the
            answer is in other words than the quote.
        unreadable_since: since when the document could not be looked up, as of a `RecallHit`.
    """

    source: str
    line: int | None
    end_line: int | None
    page: int | None
    memory_id: str
    similarity: float
    headings: tuple[str, ...]
    quote: str
    start: int = 0
    end: int = 0
    unreadable_since: str = ""
    part: str = ""

    @classmethod
    def of(cls, place: Place) -> Citation:
        """Cite a place, in what it is part of."""
        hit = place.hit
        block = place.block
        above = f"{block.header}\n" if block.header else ""
        first = len(above) - block.start
        start, end = place.start + first, min(place.end, block.end) + first
        return cls._of_block(hit, block, above, hit.line_at(place.start), start, end)

    @classmethod
    def of_block(cls, hit: RecallHit, block: PassageBlock, *, is_answer: bool) -> Citation:
        """Cite a part of a passage, as the answer itself or for one in other words."""
        above = f"{block.header}\n" if block.header else ""
        end = len(above) + block.end - block.start if is_answer else 0
        return cls._of_block(hit, block, above, hit.line_at(block.start), len(above) * is_answer, end)

    @classmethod
    def _of_block(
        cls, hit: RecallHit, block: PassageBlock, above: str, line: int | None, start: int, end: int
    ) -> Citation:
        return cls(
            source=hit.source,
            line=line,
            end_line=hit.line_at(max(block.start, block.end - 1)),
            page=hit.page,
            memory_id=hit.memory_id,
            similarity=hit.similarity,
            headings=hit.headings,
            quote=above + hit.text[block.start : block.end],
            start=start,
            end=end,
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
            "quote": self.quote,
            "start": self.start,
            "end": self.end,
            "unreadable_since": self.unreadable_since,
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """One answer to a question, and all places that give it.

    Attributes:
        text: the shortest text that answers, on one line, or what a model wrote.
        citations: where it stands, the surest place first; at least one.
        confidence: calibrated probability of being right; None where nothing was calibrated.
    """

    text: str
    citations: tuple[Citation, ...]
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The statement as JSON-able values."""
        return {
            "text": self.text,
            "confidence": _rounded(self.confidence),
            "citations": [citation.to_dict() for citation in self.citations],
        }


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What `ask` says.

    Attributes:
        question: the question.
        statements: answers, the likeliest to be right first; several where sources differ, or where
            several things were asked for. None when it abstained.
        passages: what was read, nearest first.
        nearest: similarity of the best hit; None when there was none.
        threshold: similarity from which passages count as near; None where nothing was measured.
        mode: how it came about.
        confidence: calibrated probability that the first statement is right; of an abstention, that the best
            one that was held back would have been; None where nothing was calibrated.
        reason: why it abstained; None when it did not.
        unknown_names: names of the question that stand in none of the passages.
        uncertainty: calibrated probability that what a model wrote by diffusion is wrong, also where it is
            not shown; None where nothing was, or no calibration is there.
        index: how words were looked for, as of a `RecallResult`. foreign_words: as of one.
    """

    question: str
    statements: tuple[Statement, ...]
    passages: tuple[RecallHit, ...]
    nearest: float | None
    threshold: float | None
    mode: Mode
    confidence: float | None = None
    reason: Reason | None = None
    unknown_names: tuple[str, ...] = ()
    uncertainty: float | None = None
    index: str | None = None
    foreign_words: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: RecallResult, statements: tuple[Statement, ...], mode: Mode, **more: Any) -> Answer:
        """An answer from what was recalled."""
        more.setdefault("confidence", statements[0].confidence if statements else None)
        more |= {"index": found.index, "foreign_words": found.foreign_words}
        return cls(found.question, statements, found.hits, found.nearest, found.threshold, mode, **more)

    @property
    def text(self) -> str:
        """The first statement; "" when it abstained."""
        return self.statements[0].text if self.statements else ""

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Those of all statements, in their order."""
        return tuple(citation for one in self.statements for citation in one.citations)

    @property
    def abstained(self) -> bool:
        """Nothing is answered; `reason` tells why."""
        return not self.statements

    @property
    def doubt(self) -> float | None:
        """Calibrated probability that what is said first is wrong; None where nobody knows or nothing is."""
        if self.abstained or self.confidence is None:
            return None
        return 1.0 - self.confidence

    @property
    def is_quote(self) -> bool:
        """It is in the words of the passages, letter by letter."""
        return self.mode in ("reader", "nearest") and bool(self.statements)

    def __repr__(self) -> str:
        if self.abstained:
            return f"Answer({self.question!r}: abstained, {self.reason})"
        first = self.statements[0].citations[0]
        where = f"{first.source or first.memory_id}:{first.line}"
        more = f", {len(self.statements) - 1} more" if len(self.statements) > 1 else ""
        sure = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        return f"Answer({self.text!r} [{where}]{sure}{more})"

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-able values."""
        return {
            "question": self.question,
            "answer": self.text,
            "answers": [statement.to_dict() for statement in self.statements],
            "is_quote": self.is_quote,
            "mode": self.mode,
            "abstained": self.abstained,
            "reason": self.reason,
            "unknown_names": list(self.unknown_names),
            "confidence": _rounded(self.confidence),
            "uncertainty": _rounded(self.uncertainty),
            "citations": [citation.to_dict() for citation in self.citations],
            "passages": [hit.to_dict() for hit in self.passages],
            "nearest": None if self.nearest is None else round(self.nearest, 6),
            "threshold": self.threshold,
            "index": self.index,
            "foreign_words": list(self.foreign_words),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
