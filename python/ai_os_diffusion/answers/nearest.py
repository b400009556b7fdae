"""The nearest part of what was recalled, where nobody is there who reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.answers.answer import Answer, Citation, Statement
from ai_os_diffusion.answers.decision import why_nothing
from ai_os_diffusion.answers.passage_block import PassageBlock, blocks_of
from ai_os_diffusion.answers.recall import RecallHit, RecallResult
from ai_os_diffusion.utils.cosine import cosines

__all__ = ["nearest_answer", "nearest_blocks"]

Vectors = NDArray[np.float32]

_LONGEST = 600
"""Characters of a part that are embedded; an encoder's window takes hardly more."""


def nearest_blocks(
    vector: Vectors, hits: Sequence[RecallHit], embed: Callable[[Sequence[str]], Vectors]
) -> list[tuple[RecallHit, PassageBlock]]:
    """The parts of passages, nearest to a question first.

    Args:
        vector: the question's embedding, float32[dim].
        hits: passages.
        embed: makes float32[n, dim] of texts.
    """
    found = [(hit, block) for hit in hits for block in blocks_of(hit.text)]
    if not found:
        return []
    near = cosines(embed([hit.text[block.start : block.end][:_LONGEST] for hit, block in found]), vector)
    return [found[index] for index in np.argsort(-near[:, 0], kind="stable")]


def nearest_answer(found: RecallResult, vector: Vectors, embed: Callable[[Sequence[str]], Vectors]) -> Answer:
    """Quote the part of the passages that is nearest to the question. It may be beside the point.

    Args:
        found: what was recalled.
        vector: embedding of its question, float32[dim].
        embed: makes float32[n, dim] of texts.
    """
    blocks = [] if found.abstained else nearest_blocks(vector, found.hits, embed)
    if not blocks:
        reason, unknown = why_nothing(found)
        return Answer.of(found, (), "nearest", reason=reason, unknown_names=unknown)
    hit, block = blocks[0]
    citation = Citation.of_block(hit, block, is_answer=True)
    text = " ".join(hit.text[block.start : block.end].split())
    return Answer.of(found, (Statement(text, (citation,)),), "nearest")
