"""The canvas of a template: its text given, its slots open, each held to what it may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan
from ai_os_diffusion.inference.denoising.forms.slot_evidence import slot_evidence
from ai_os_diffusion.inference.denoising.forms.slot_tokens import SlotTokens
from ai_os_diffusion.inference.denoising.forms.template import Template
from ai_os_diffusion.inference.denoising.gaps import GappedText

__all__ = ["template_plan"]

Ids = NDArray[np.int32]

_MAX_SLOT = 12


def template_plan(
    prompt: Ids,
    template: Template,
    tokens: SlotTokens,
    encode: Callable[[str], Ids],
    mask_id: int,
    max_fill: int | None,
    notes: str,
) -> CanvasPlan:
    """Lay out a template.

    Args:
        prompt: int32[n], what is read before it.
        template: the object.
        tokens: which of them a slot is held to.
        encode: makes ids of given text.
        mask_id: the token of an open position.
        max_fill: positions of a slot, by default 12; never fewer than its longest option has.
        notes: what it is filled from.
    """
    room = _MAX_SLOT if max_fill is None else max_fill
    rooms = [max(room, tokens.longest(slot)) for slot in template.slots]
    pieces = template.pieces()
    gapped = GappedText.of(pieces, pieces, encode, mask_id, rooms)

    def result(fills: list[str]) -> tuple[str, Any]:
        value = template.value(fills)
        return json.dumps(value, ensure_ascii=False), value

    def is_valid(fills: list[str]) -> bool:
        return all(slot.is_value(text) for slot, text in zip(template.slots, fills, strict=True))

    def evidence(index: int, text: str) -> dict[str, float]:
        return slot_evidence(template.slots[index], text, notes)

    # A minus without a number behind it is none: then it is written once more, without.
    plan, fallback = (
        CanvasPlan(
            prompt,
            (gapped.ids,),
            gapped.gaps,
            result,
            stops=False,
            allowed={
                (0, begin + place): choices
                for slot, (begin, end) in zip(template.slots, gapped.gaps, strict=True)
                for place, choices in tokens.allowed(slot, end - begin, minus=minus)
            },
            is_valid=is_valid,
            fill_evidence=evidence if notes else None,
            may_be_empty=tuple(slot.may_be_empty for slot in template.slots),
        )
        for minus in (True, False)
    )
    return replace(plan, fallback=fallback)
