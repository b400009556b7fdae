"""How long what fills a gap is: told by one pass, before anything is written.

Where the surest token is written first, NULL is often surer than any word, and a gap is closed by what is
sure and not by what is likely. In the first pass the chance of NULL at each position is that of all that is
shorter, so that its median can be read off.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion.denoiser import Ask, Denoiser, Reading
from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan
from ai_os_diffusion.inference.denoising.gaps import anything_but

__all__ = ["is_over", "with_gap_lengths"]


def with_gap_lengths(denoiser: Denoiser, plan: CanvasPlan, vocab_size: int, odds: float) -> CanvasPlan:
    """A plan of one block whose gaps have the length that is as likely too great as too small.

    Args:
        denoiser: has a token for nothing, which stands where a gap is over.
        plan: its gaps as long as they may become; positions that are held to some tokens stay so.
        vocab_size: of the model.
        odds: by how much those of NULL are multiplied (`DiffusionSettings.null_odds`).
    """
    (ids,) = plan.blocks
    null_id = denoiser.null_id
    assert null_id is not None
    rows = np.concatenate([np.arange(*gap) for gap in plan.gaps])
    # So many tokens can be as likely as one that ends a gap, and no more.
    (text,) = denoiser.read([Reading(plan.prompt, len(ids), top_k=math.floor(1 + odds))])
    (found,) = denoiser.predict([Ask(text, ids, rows)])
    chance = np.where(found.top_ids == null_id, found.top_confidence, 0).sum(axis=1)
    ends, ids, allowed, first = is_over(chance, odds), ids.copy(), dict(plan.allowed), 0
    something = anything_but(null_id, vocab_size)
    for begin, end in plan.gaps:
        own = ends[first : first + end - begin]
        first += end - begin
        held = sum((0, row) in plan.allowed for row in range(begin, end))
        length = max(int(own.argmax()) if own.any() else len(own), held)
        # An empty gap stays open at its first position: a pass then writes that nothing stands there.
        ids[begin + max(length, 1) : end] = null_id
        allowed |= {(0, row): something for row in range(begin, begin + length)}
    return replace(plan, blocks=(ids,), allowed=allowed)


def is_over(chance: NDArray[Any], odds: float) -> NDArray[np.bool_]:
    """Where nothing is likelier than something, by chances of NULL whose odds are multiplied."""
    found: NDArray[np.bool_] = chance * odds >= 1 - chance
    return found
