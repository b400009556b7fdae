"""What a value of a template itself tells of its being right."""

from __future__ import annotations

from ai_os_diffusion.inference.denoising.answer_evidence import share_quoted
from ai_os_diffusion.inference.denoising.forms.slot import SEPARATOR, Slot

__all__ = ["slot_evidence"]


def slot_evidence(slot: Slot, written: str, notes: str) -> dict[str, float]:
    """How much of what was written for a value stands in the notes, and of what kind it is.

    Args:
        slot: the value.
        written: what was written for it.
        notes: what it was found in.

    Returns:
        `quoted`, from 0 to 1; `listed`, `numeric` and `judged`, each 0 or 1.
    """
    parts = SEPARATOR.split(written) if slot.is_list else [written]
    return {
        "quoted": share_quoted(parts, notes),
        "listed": float(slot.is_list),
        "numeric": float(slot.kind in ("integer", "number")),
        "judged": float(slot.kind == "boolean" or bool(slot.options)),
    }
