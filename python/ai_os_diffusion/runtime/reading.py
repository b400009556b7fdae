"""The reader of a runtime: its encoder with a card, and how its answers are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.ingestion import context_line
from ai_os_diffusion.models.cards.readers import find_reader

if TYPE_CHECKING:
    from ai_os_diffusion.answers.candidates import Candidate
    from ai_os_diffusion.answers.recall import RecallHit, RecallResult
    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.inference.reading.reading import Reading
    from ai_os_diffusion.models.cards import Card

__all__ = ["RuntimeReader"]


class RuntimeReader:
    """Reads what was recalled.

    Args:
        engine: the encoder.
        card: its reader, which is attached.

    Attributes:
        card: the reader.
        judge: ranks what it finds.
    """

    def __init__(self, engine: ArrowEngine, card: Card) -> None:
        self._engine = engine
        self.card = card
        self.judge = Judge.of(card.description.config, f"card {card.name!r}")
        engine.attach(card)

    @classmethod
    def of(cls, engine: ArrowEngine, given: str | None) -> RuntimeReader | None:
        """The reader of an encoder; None where it has no card.

        Args:
            engine: the encoder.
            given: as of `find_reader`.
        """
        digest = engine.metadata.source.get("weights_sha256")
        card = find_reader(given, Path(engine.folder), None if digest is None else str(digest))
        return None if card is None else cls(engine, card)

    def read(self, question: str, hits: Sequence[RecallHit]) -> list[Reading]:
        """Read passages below their titles."""
        return self._engine.read(
            question, [hit.text for hit in hits], [context_line(hit.headings) for hit in hits]
        )

    def candidates(
        self, found: RecallResult, readings: Sequence[Reading], *, ignoring: str = ""
    ) -> list[Candidate]:
        """The answers that compete.

        Args:
            found: what was recalled.
            readings: of its hits.
            ignoring: an answer that is known: one that repeats all of it answers nothing new.
        """
        from ai_os_diffusion.answers.candidates import agree, candidates, words_of

        known = words_of(ignoring)
        return [
            one
            for one in candidates(found.question, found.hits, readings)
            if len(words_of(one.text)) < len(known) or not agree(known, words_of(one.text))
        ]
