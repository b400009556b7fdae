"""The sentences of recalled passages that a question is about.

They are what a model reads and what is quoted. A small model answers from the one right sentence better than
from three, and better from three than from three pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.answers.support import term_overlap
from ai_os_diffusion.ingestion import splitting
from ai_os_diffusion.utils.cosine import cosines

__all__ = ["Excerpt", "Sentence", "excerpts_of", "nearest_sentences", "worth_quoting"]

# Passages that are this much less similar than the best are left out.
_PASSAGES_WITHIN = 0.15
# What the score of a sentence is made of: its cosine to the question, that of its passage, and the share of
# the question's words in it.
_OWN, _PASSAGE, _WORDS = 10 / 15, 3 / 15, 2 / 15
_LONGEST_SENTENCE = 600
# Where two sentences score nearly the same, both are quoted.
_QUOTED = 2
_QUOTED_WITHIN = 0.035

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage.

    Attributes:
        hit: the passage.
        start: where in the passage it begins, in characters.
        text: on one line.
        score: how near it is to the question, at most 1.
    """

    hit: RecallHit
    start: int
    text: str
    score: float

    @property
    def line(self) -> int | None:
        """Source line where it begins; the passage's own where the lines of the two differ."""
        hit = self.hit
        if hit.line is None or hit.end_line is None:
            return hit.line
        aligned = hit.text.count("\n") == hit.end_line - hit.line
        return hit.line + hit.text.count("\n", 0, self.start) if aligned else hit.line


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What was chosen of one passage.

    Attributes:
        hit: the passage.
        text: the chosen sentences in the order of the passage.
    """

    hit: RecallHit
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The excerpt as JSON-able values."""
        return {**self.hit.to_dict(), "excerpt": self.text}


def nearest_sentences(
    question: str,
    vector: Vectors,
    hits: Sequence[RecallHit],
    embed: Callable[[Sequence[str]], Vectors],
    most: int | None,
) -> tuple[Sentence, ...]:
    """Choose the sentences nearest to a question, over all passages that are nearly as near as the best.

    Args:
        question: its words.
        vector: its embedding, float32[dim].
        hits: passages, best first.
        embed: makes float32[n, dim] of texts.
        most: how many to choose; None is all.

    Returns:
        Sentences, nearest first; a text that occurs twice is taken once.
    """
    found: dict[str, tuple[RecallHit, int]] = {}
    for hit in hits:
        if hit.similarity >= hits[0].similarity - _PASSAGES_WITHIN:
            for start, end in splitting.sentences(hit.text):
                found.setdefault(_one_line(hit.text[start:end]), (hit, start))
    if not found:
        return ()
    near = cosines(embed(list(found)), vector)[:, 0]
    sentences = [
        Sentence(
            hit,
            start,
            text,
            float(_OWN * own + _PASSAGE * hit.similarity + _WORDS * term_overlap(question, text)),
        )
        for own, (text, (hit, start)) in zip(near, found.items(), strict=True)
    ]
    return tuple(sorted(sentences, key=lambda sentence: -sentence.score)[:most])


def worth_quoting(sentences: Sequence[Sentence]) -> tuple[Sentence, ...]:
    """The nearest sentence, with the next where that is nearly as near.

    Args:
        sentences: nearest first.
    """
    return tuple(
        sentence for sentence in sentences[:_QUOTED] if sentence.score >= sentences[0].score - _QUOTED_WITHIN
    )


def excerpts_of(sentences: Sequence[Sentence]) -> tuple[Excerpt, ...]:
    """Group sentences by their passage.

    Args:
        sentences: nearest first.

    Returns:
        Excerpts, the one with the nearest sentence first.
    """
    chosen: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        chosen.setdefault(sentence.hit.memory_id, []).append(sentence)
    return tuple(
        Excerpt(own[0].hit, " ".join(piece.text for piece in sorted(own, key=lambda piece: piece.start)))
        for own in chosen.values()
    )


def _one_line(sentence: str) -> str:
    text = " ".join(sentence.split())
    return text if len(text) <= _LONGEST_SENTENCE else text[:_LONGEST_SENTENCE].rsplit(" ", 1)[0] + " …"
