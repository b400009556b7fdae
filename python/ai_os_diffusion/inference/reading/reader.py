"""Reads passages for a question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.inference.reading.reader_settings import ReaderSettings
from ai_os_diffusion.inference.reading.reading import Reading, Span
from ai_os_diffusion.inference.reading.spans import best_spans
from ai_os_diffusion.inference.reading.windows import Window, windows
from ai_os_diffusion.models.cards.description import READER, CardDescription
from ai_os_diffusion.utils.errors import CardError, InferenceError, ShapeError

__all__ = ["Reader"]

_RELEVANCE = 2
"""Output of the head, at the first token, that scores the passage as a whole."""


class Reader:
    """Points at answers in passages, by the card of kind "reader" that an encoder has attached.

    Args:
        core: of the encoder.
        tokenizer: the encoder's.

    Raises:
        CardError: no reader card is attached, or what it says of itself is out of range.
    """

    def __init__(self, core: InferenceCore, tokenizer: FastTokenizer) -> None:
        self._core, self._tokenizer = core, tokenizer
        self.settings = ReaderSettings.of(*_described(core))

    def read(
        self,
        question: str,
        passages: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        most_spans: int = 3,
    ) -> list[Reading]:
        """Read all passages in one pass.

        Args:
            question: what is asked.
            passages: where it may be answered.
            titles: what stands above each; it is read, and no part of an answer.
            most_spans: places to tell of a passage at most.

        Returns:
            A reading for each passage, in their order. It is the same in any company.

        Raises:
            InferenceError: the encoder takes too few tokens for the question.
            TokenizerError: a text is not a `str` or holds a lone surrogate.
            ShapeError: titles and passages differ in number.
        """
        titles = [""] * len(passages) if titles is None else titles
        if len(titles) != len(passages):
            raise ShapeError(f"{len(titles)} titles for {len(passages)} passages, expected one for each")
        if not passages:
            return []
        found: list[list[Span]] = [[] for _ in passages]
        relevance: list[float | None] = [None] * len(passages)
        laid = windows(
            self._tokenizer,
            question,
            passages,
            titles,
            self.settings,
            self._core.config.max_position_embeddings,
        )
        for window, scores in zip(laid, self._scores(laid), strict=True):
            none = float(scores[0, 0] + scores[0, 1])
            own = scores[window.first : -1, :2]
            for first, last, score in best_spans(own, self.settings.span_tokens, most_spans):
                start, end = int(window.places[first, 0]), int(window.places[last, 1])
                if start < end:
                    found[window.passage].append(Span(start, end, score - none))
            if scores.shape[1] > _RELEVANCE:
                before = relevance[window.passage]
                told = float(scores[0, _RELEVANCE])
                relevance[window.passage] = told if before is None else max(before, told)
        return [Reading(_apart(spans, most_spans), own) for spans, own in zip(found, relevance, strict=True)]

    def _scores(self, laid: Sequence[Window]) -> list[NDArray[np.float32]]:
        """Scores of the tokens of each window."""
        if not laid:
            return []
        bounds = np.cumsum([0, *(len(window.ids) for window in laid)])
        types = np.ones(bounds[-1], np.uint8)
        for window, start in zip(laid, bounds, strict=False):
            types[start : start + window.question_length] = 0
        scores = self._core.head_scores(
            (np.concatenate([window.ids for window in laid]), bounds),
            self.settings.head,
            types if self._core.config.type_vocab_size > 1 else None,
            mode=READER,
        )
        if scores.shape[1] < 2:
            raise InferenceError(
                f"head {self.settings.head!r} has {scores.shape[1]} outputs, expected a start and an end"
            )
        return np.split(scores, bounds[1:-1])


def _apart(spans: Sequence[Span], most: int) -> tuple[Span, ...]:
    """The best spans of all windows; of those that overlap the better."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: -span.margin):
        if len(kept) < most and all(span.end <= own.start or own.end <= span.start for own in kept):
            kept.append(span)
    return tuple(kept)


def _described(core: InferenceCore) -> tuple[dict[str, object], str]:
    """What the reader card in use says of its use, and what to call it."""
    about = reader_card(core)
    if about is None:
        raise CardError(
            "reading needs a card of kind 'reader', and none is attached to this model; attach one of its "
            "own base, see `aios convert --base`"
        )
    return dict(about.config), f"card {about.name!r}"


def reader_card(core: InferenceCore) -> CardDescription | None:
    """The reader card that a model has attached; None without one."""
    for about in core.cards.in_use(READER).descriptions:
        if about.kind == READER:
            return about
    return None
