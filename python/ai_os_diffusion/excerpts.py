"""The sentences of recalled passages that a question is about.

A small model answers from three sentences better than from three pages, and in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.ingestion import splitting
from ai_os_diffusion.recall import RecallHit

__all__ = ["Excerpt", "select_excerpts"]

# How much the similarity of a sentence's passage adds to its own.
_PASSAGE_WEIGHT = 0.3
_LONGEST_SENTENCE = 600

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Sentences of one passage.

    Attributes:
        hit: the passage.
        text: the chosen sentences in the order of the passage.
        quote: the one nearest to the question.
        line: source line where that one begins; None where lines mean nothing.
    """

    hit: RecallHit
    text: str
    quote: str
    line: int | None

    def to_dict(self) -> dict[str, Any]:
        """The excerpt as JSON-able values."""
        return {**self.hit.to_dict(), "excerpt": self.text}


def select_excerpts(
    question: Vectors,
    hits: Sequence[RecallHit],
    embed: Callable[[Sequence[str]], Vectors],
    *,
    sentences: int = 3,
    within: float = 0.15,
) -> tuple[Excerpt, ...]:
    """Choose the sentences nearest to a question, over all passages that are nearly as near as the best.

    Args:
        question: float32[dim], of length 1.
        hits: passages, best first.
        embed: makes float32[n, dim] of texts, of length 1.
        sentences: how many to choose.
        within: leave out passages that are this much less similar than the best.

    Returns:
        Excerpts in the order of `hits`; a text that occurs twice is taken once.
    """
    near = [hit for hit in hits if hit.similarity >= hits[0].similarity - within]
    pieces: dict[str, tuple[int, int]] = {}
    for index, hit in enumerate(near):
        for start, end in splitting.sentences(hit.text):
            pieces.setdefault(_one_line(hit.text[start:end]), (index, start))
    if not pieces:
        return ()
    own = embed(list(pieces)) @ question
    shared = np.array([near[index].similarity for index, _ in pieces.values()], np.float32)
    scores = own + _PASSAGE_WEIGHT * shared
    chosen = [list(pieces.items())[i] for i in np.argsort(-scores, kind="stable")[:sentences]]
    excerpts = []
    for index, hit in enumerate(near):
        mine = [(text, start) for text, (passage, start) in chosen if passage == index]
        if mine:
            text = " ".join(piece for piece, _ in sorted(mine, key=lambda item: item[1]))
            excerpts.append(Excerpt(hit, text, mine[0][0], _line(hit, mine[0][1])))
    return tuple(excerpts)


def _one_line(sentence: str) -> str:
    text = " ".join(sentence.split())
    return text if len(text) <= _LONGEST_SENTENCE else text[:_LONGEST_SENTENCE].rsplit(" ", 1)[0] + " …"


def _line(hit: RecallHit, start: int) -> int | None:
    """The line of a place in a passage; the passage's own where its lines are not those of the source."""
    if hit.line is None or hit.end_line is None:
        return hit.line
    aligned = hit.text.count("\n") == hit.end_line - hit.line
    return hit.line + hit.text.count("\n", 0, start) if aligned else hit.line
