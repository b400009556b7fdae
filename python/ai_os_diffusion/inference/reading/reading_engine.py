"""The verbs of an engine that reads a question and a passage at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.denoising.diffusing import DiffusingEngine
from ai_os_diffusion.inference.fast_tokenizer import as_batch

if TYPE_CHECKING:
    from ai_os_diffusion.inference.reading.reading import Reading

__all__ = ["ReadingEngine"]


class ReadingEngine(DiffusingEngine):
    """What `ArrowEngine` does with questions and passages."""

    def read(
        self, question: str, passages: Sequence[str], titles: Sequence[str] | None = None
    ) -> list[Reading]:
        """Point at the answer in each passage, by a reader card: attach one first.

        Args:
            question: what is asked.
            passages: where it may be answered.
            titles: what stands above each; it is read, and no part of an answer.

        Returns:
            For each passage its best spans, with their margins over "no answer", and its relevance.

        Raises:
            CardError: no reader card is attached.
            InferenceError: the encoder takes too few tokens for the question.
        """
        from ai_os_diffusion.inference.reading.reader import Reader

        return Reader(self.core, self.tokenizer).read(question, as_batch(passages), titles)

    def relevance(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Score how well passages answer a question, by a reranker: float32[n]; see `relevance.relevance`."""
        from ai_os_diffusion.inference.encoding.relevance import relevance

        return relevance(self.core, self.tokenizer, question, as_batch(passages))
