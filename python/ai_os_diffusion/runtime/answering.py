"""Questions to answers: what was recalled is read, and what was found is said, or a model says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ai_os_diffusion.answers.answer import Answer, Statement
from ai_os_diffusion.answers.decision import decide, why_nothing
from ai_os_diffusion.answers.grounding import ANSWER_ENDS, grounded_prompt, held_parts, is_held, says_the_same
from ai_os_diffusion.answers.nearest import nearest_answer, nearest_blocks
from ai_os_diffusion.inference.reading.reading import mean_reading
from ai_os_diffusion.runtime.before import recalled_together
from ai_os_diffusion.utils.errors import ConfigurationError

if TYPE_CHECKING:
    from ai_os_diffusion.answers.recall import RecallHit, RecallResult
    from ai_os_diffusion.inference import Diffusion
    from ai_os_diffusion.inference.reading.reading import Reading
    from ai_os_diffusion.runtime.before import Before
    from ai_os_diffusion.runtime.runtime import Runtime

__all__ = ["MODES", "Answering"]

MODES = ("ar", "diffusion")
"""Ways in which a model may be asked to answer in its words."""

_READ_BY_DIFFUSION = 3
"""Passages that a short answer is written from."""


class Answering:
    """Answers from what was recalled.

    Args:
        runtime: whose engines are used; each is loaded when it is first needed, and none but the encoder for
            an answer that the reader finds.
        mode: "ar" or "diffusion" lets a model write the answer from what is found; None quotes it.
        max_tokens: length of what a model writes at most.

    Raises:
        ConfigurationError: there is no such mode.
    """

    def __init__(self, runtime: Runtime, *, mode: str | None = None, max_tokens: int = 96) -> None:
        if mode is not None and mode not in MODES:
            raise ConfigurationError(f"mode is {mode!r}, expected 'ar' or 'diffusion'")
        self._runtime, self._mode, self._max_tokens = runtime, mode, max_tokens

    def answer(self, found: RecallResult, before: Before | None = None) -> Iterator[str | Answer]:
        """Answer the question of what was recalled.

        Args:
            found: what was recalled.
            before: what the question may refer to.

        Yields:
            The text, then the `Answer`; of an abstention only that.
        """
        quoted = self.quoted(found, before)
        # What the reader declines is not left to a model.
        if quoted.statements and self._mode == "diffusion":
            quoted = self._by_diffusion(found, quoted)
        elif quoted.statements and self._mode == "ar":
            quoted = self._continued(quoted)
        if quoted.text:
            yield quoted.text
        yield quoted

    def places(self, question: str, hits: Sequence[RecallHit]) -> list[tuple[int, int] | None]:
        """Where each passage comes nearest to an answer, in characters: as the reader points, sure or not.

        Without a reader it is the part nearest to the question; None where a passage has no parts.

        Args:
            question: what was asked.
            hits: passages.
        """
        reader = self._runtime.reader
        if reader is not None:
            spans = [reading.spans[:1] for reading in reader.read(question, hits)]
            return [(span[0].start, span[0].end) if span else None for span in spans]
        encoder = self._runtime.encoder
        parts = nearest_blocks(encoder.encode_query(question), hits, encoder.encode_document)
        nearest = {hit.memory_id: (block.start, block.end) for hit, block in reversed(parts)}
        places = [nearest.get(hit.memory_id) for hit in hits]
        # Most of a passage is no part of it.
        return [
            place if place and 2 * (place[1] - place[0]) < len(hit.text) else None
            for hit, place in zip(hits, places, strict=True)
        ]

    def quoted(self, found: RecallResult, before: Before | None = None) -> Answer:
        """Answer in the words of the passages: by the reader, or where none is, with what is nearest.

        A question that may refer to what was said before is read by itself, and with that as well; what is
        found in both ways counts where it is surer.

        Args:
            found: what was recalled.
            before: as of `answer`.
        """
        reader = self._runtime.reader
        if reader is None:
            encoder = self._runtime.encoder
            return nearest_answer(found, encoder.encode_query(found.question), encoder.encode_document)
        if found.abstained:
            reason, unknown = why_nothing(found)
            return Answer.of(found, (), "reader", reason=reason, unknown_names=unknown)
        if before is None:
            return self._decided(found, reader.read(found.question, found.hits))
        together = before.with_message(found.question)
        other = self._runtime.to_read(self._runtime.encoder.end_of(together))
        both = replace(found, hits=recalled_together(found, other, before.passages))
        own = reader.read(found.question, both.hits)
        by_id = {hit.memory_id: reading for hit, reading in zip(both.hits, own, strict=True)}
        alone = self._decided(found, [by_id[hit.memory_id] for hit in found.hits])
        pairs = zip(own, reader.read(together, both.hits), strict=True)
        joint = self._decided(both, [mean_reading(pair) for pair in pairs], ignoring=before.answer)
        # Where nobody knows which is surer, a question that is answered needs no help.
        is_surer = alone.abstained or (joint.confidence or 0.0) > (alone.confidence or 0.0)
        return joint if is_surer and not joint.abstained else alone

    def _decided(self, found: RecallResult, readings: Sequence[Reading], *, ignoring: str = "") -> Answer:
        reader = self._runtime.reader
        assert reader is not None
        competing = reader.candidates(found, readings, ignoring=ignoring)
        return decide(found, competing, reader.judge)

    def _continued(self, quoted: Answer) -> Answer:
        """The first statement in a sentence of the decoder's, where that says nothing else."""
        best = quoted.statements[0]
        prompt = grounded_prompt(quoted.question, best.citations[0].quote)
        stream = self._runtime.generate(prompt, max_tokens=self._max_tokens, stop=ANSWER_ENDS)
        written = " ".join("".join(stream).split())
        is_whole = stream.generation.finish_reason != "length"
        is_read = quoted.mode == "reader"
        if not is_whole or not is_held(written, best, is_read=is_read):
            return quoted
        said = Statement(written, best.citations, best.confidence)
        return replace(quoted, statements=(said, *quoted.statements[1:]), mode="ar")

    def _by_diffusion(self, found: RecallResult, quoted: Answer) -> Answer:
        """A short answer by diffusion, where it stands in the passages; or that they do not answer."""
        from ai_os_diffusion.inference.denoising.answer_evidence import without_verdict

        settings = self._runtime.diffuser.diffusion_settings
        written = self._written(replace(found, hits=quoted.passages))
        text, uncertainty = written.text.strip(), written.uncertainty
        sure = None if uncertainty is None else 1.0 - uncertainty
        if settings.declines is not None and text.casefold() == settings.declines.casefold():
            _, unknown = why_nothing(found)
            return replace(
                quoted,
                statements=(),
                mode="diffusion",
                confidence=sure,
                reason="declined",
                unknown_names=unknown,
                uncertainty=uncertainty,
            )
        # A verdict is the model's own, and no passage holds it.
        said = without_verdict(text, settings.verdicts)
        citations = held_parts(said, quoted.passages)
        is_read = quoted.mode == "reader"
        if citations is None or (is_read and not says_the_same(said, quoted.statements)):
            return replace(quoted, uncertainty=uncertainty)
        return replace(
            quoted,
            statements=(Statement(said, citations, sure),),
            mode="diffusion",
            confidence=sure,
            reason=None,
            uncertainty=uncertainty,
        )

    def _written(self, found: RecallResult) -> Diffusion:
        from ai_os_diffusion.diffusion import MemoryConditioner

        engine = self._runtime.diffuser
        conditioner = MemoryConditioner(
            lambda _question, _most: found.hits,
            count=lambda text: int(engine.tokenizer.count(text)[0]),
            most=_READ_BY_DIFFUSION,
        )
        read = conditioner.condition(found.question)
        # A short answer ends in its first block, one with a reason in the second.
        length = min(self._max_tokens, 2 * engine.diffusion_settings.block_length)
        return engine.diffuse(found.question, context=read.passages, max_tokens=length)
