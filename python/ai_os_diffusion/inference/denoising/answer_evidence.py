"""What an answer itself tells of its being right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

__all__ = ["answer_evidence", "share_quoted", "without_verdict"]

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
    declines = settings.declines
    return {
        "quoted": share_quoted(reason.split(_PARTED), context),
        "declined": float(declines is not None and said.casefold() == declines.casefold()),
    }


def share_quoted(parts: Iterable[str], context: str) -> float:
    """The share of the parts that say something which stand in a context, whatever their case."""
    context = context.casefold()
    held = [part in context for part in (part.strip().casefold() for part in parts) if part]
    return sum(held) / len(held) if held else 0.0


def without_verdict(text: str, verdicts: Sequence[str]) -> str:
    """The reason of an answer that begins with a verdict; any other as it is."""
    return next((text[len(start) :] for start in verdicts if text.startswith(start)), text)
