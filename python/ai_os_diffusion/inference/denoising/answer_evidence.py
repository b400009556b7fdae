"""What an answer itself tells of its being right."""

from __future__ import annotations

from collections.abc import Sequence

from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

__all__ = ["answer_evidence", "without_verdict"]

_PARTED = ";"


def answer_evidence(text: str, context: str, settings: DiffusionSettings) -> dict[str, float]:
    """How much of an answer stands in its context, and whether it declines.

    Parts stand by themselves, and of a verdict with a reason the reason.

    Args:
        text: the answer.
        context: what it was found in.
        settings: how the model declines and judges.

    Returns:
        `quoted` and `declined`, each from 0 to 1.
    """
    said = text.strip()
    reason = without_verdict(said, settings.verdicts)
    parts = [part.strip().casefold() for part in reason.split(_PARTED)]
    held = [part in context.casefold() for part in parts if part]
    declines = settings.declines
    return {
        "quoted": sum(held) / len(held) if held else 0.0,
        "declined": float(declines is not None and said.casefold() == declines.casefold()),
    }


def without_verdict(text: str, verdicts: Sequence[str]) -> str:
    """The reason of an answer that begins with a verdict; any other as it is."""
    return next((text[len(start) :] for start in verdicts if text.startswith(start)), text)
