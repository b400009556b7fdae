"""How long what fills a gap is: told by one pass, before anything is written.

Where the surest token is written first, NULL is often surer than any word, and a gap is closed by what is
sure and not by what is likely. In the first pass the chance of NULL at each position is that of all that is
shorter, so that its median can be read off.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ai_os_diffusion.diffusion.denoiser import Ask, Denoiser, Reading
from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan

__all__ = ["with_gap_lengths"]


def with_gap_lengths(denoiser: Denoiser, plan: CanvasPlan, vocab_size: int) -> CanvasPlan:
    """A plan of one block whose gaps have the length that is as likely too great as too small.

    Args:
        denoiser: has a token for nothing, which stands where a gap is over.
        plan: its gaps as long as they may become; positions that are held to some tokens stay so.
        vocab_size: of the model.
    """
    (ids,) = plan.blocks
    null_id = denoiser.null_id
    assert null_id is not None
    rows = np.concatenate([np.arange(*gap) for gap in plan.gaps])
    (text,) = denoiser.read([Reading(plan.prompt, len(ids), top_k=1)])
    (found,) = denoiser.predict([Ask(text, ids, rows)])
    is_over = (found.top_ids[:, 0] == null_id) & (found.top_confidence[:, 0] >= 0.5)
    ids, allowed, first = ids.copy(), dict(plan.allowed), 0
    something = np.delete(np.arange(vocab_size, dtype=np.int32), null_id)
    for begin, end in plan.gaps:
        own = is_over[first : first + end - begin]
        first += end - begin
        held = sum((0, row) in plan.allowed for row in range(begin, end))
        length = max(int(own.argmax()) if own.any() else len(own), held)
        # An empty gap stays open at its first position: a pass then writes that nothing stands there.
        ids[begin + max(length, 1) : end] = null_id
        allowed |= {(0, row): something for row in range(begin, begin + length)}
    return replace(plan, blocks=(ids,), allowed=allowed)
