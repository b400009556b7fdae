"""The canvas of a text with gaps: what stands is given, the gaps are open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan
from ai_os_diffusion.inference.denoising.gaps import GappedText, anything_but
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["infill_plan"]

Ids = NDArray[np.int32]

_ROOM = 8


def infill_plan(
    prompt: Ids,
    infill: str,
    encode: Callable[[str], Ids],
    settings: DiffusionSettings,
    vocab_size: int,
    max_fill: int | None,
    min_fill: int,
) -> CanvasPlan:
    """Lay out a text with gaps.

    Args:
        prompt: int32[n], what is read before it.
        infill: the text, with `{}` for each gap.
        encode: makes ids of given text.
        settings: how the model writes.
        vocab_size: of the model.
        max_fill: positions of a gap, by default 8 or `min_fill`.
        min_fill: how many of them hold text in any case.

    Raises:
        SamplingError: there is no gap, or it has no room for what it shall hold.
    """
    room = max(_ROOM, min_fill) if max_fill is None else max_fill
    gapped = GappedText.parse(infill, encode, settings.mask_id, room)
    if min_fill > room:
        raise SamplingError(f"min_fill is {min_fill}, expected at most {room}, the room of a gap (max_fill)")
    allowed: dict[tuple[int, int], Ids] = {}
    if min_fill and settings.null_id is not None:
        something = anything_but(settings.null_id, vocab_size)
        allowed = {(0, begin + at): something for begin, _ in gapped.gaps for at in range(min_fill)}

    def result(fills: list[str]) -> tuple[str, Any]:
        return gapped.filled(fills), None

    return CanvasPlan(
        prompt,
        (gapped.ids,),
        gapped.gaps,
        result,
        stops=False,
        by_token=True,
        measures=settings.null_id is not None and min_fill < room,
        allowed=allowed,
    )
