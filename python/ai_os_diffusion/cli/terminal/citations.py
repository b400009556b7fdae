"""Where an answer or a hit stands, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.output import show_line, where_text
from ai_os_diffusion.utils.visible_text import visible_line

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer, Citation
    from ai_os_diffusion.answers.recall import OtherPlace, RecallHit

__all__ = ["citation_of", "nothing_fits", "show_citations", "unreadable"]

_ORIGINS = {
    "quote": "quoted as it stands there",
    "ar": "in the model's words",
    "diffusion": "in the model's words, by diffusion",
}


def show_citations(answer: Answer) -> None:
    """List where the answer stands; a quoted one needs no quotes beside it."""
    show_line()
    for number, citation in enumerate(answer.citations, 1):
        where = where_text(citation.source, citation.line) if citation.source else citation.memory_id
        where += _within(citation) + unreadable(citation)
        said = " > ".join(citation.headings) if answer.is_quote else f"“{' '.join(citation.quote.split())}”"
        show_line(f"[{number}] {where}  {said}".rstrip())
    origin = _ORIGINS[answer.mode]
    show_line(f"{origin}, confidence {answer.confidence:.2f}")


def citation_of(hit: RecallHit) -> str:
    """Where a hit stands: "file:line", with the page or the file within, or the memory's id."""
    if not hit.source:
        return hit.memory_id
    return where_text(hit.source, hit.line) + _within(hit) + unreadable(hit)


def _within(place: RecallHit | Citation) -> str:
    """What tells more than a line: the page, or the file within a document that the line is of."""
    page = f" page {place.page}" if place.page else ""
    return f"{page} in {visible_line(place.part)}" if place.part else page


def unreadable(place: RecallHit | OtherPlace | Citation) -> str:
    """What to say behind a place that nobody can look up any more."""
    return f" (not readable since {place.unreadable_since[:10]})" if place.unreadable_since else ""


def nothing_fits(nearest: float | None, threshold: float | None, *, filtered: bool) -> str:
    """Say why nothing was answered."""
    if nearest is None and filtered:
        return "no memory meets the filter; aios memory list --json shows what metadata there is"
    if nearest is None:
        return "memory holds nothing here; add documents with: aios add PATH"
    if threshold is None or nearest >= threshold:
        return "the passages that fit do not answer this; aios recall shows them"
    return (
        f"nothing in memory fits: the nearest passage reaches {nearest:.2f}, expected {threshold:.2f} or more"
    )
