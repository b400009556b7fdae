"""Where an answer or a hit stands, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.output import show_line, where_text

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
        page = f" page {citation.page}" if citation.page else ""
        where = where_text(citation.source, citation.line) if citation.source else citation.memory_id
        where += page + unreadable(citation)
        said = " > ".join(citation.headings) if answer.is_quote else f"“{' '.join(citation.quote.split())}”"
        show_line(f"[{number}] {where}  {said}".rstrip())
    origin = _ORIGINS[answer.mode]
    show_line(f"{origin}, confidence {answer.confidence:.2f}")


def citation_of(hit: RecallHit) -> str:
    """Where a hit stands: "file:line", with the page for a PDF, or the memory's id."""
    if not hit.source:
        return hit.memory_id
    page = f" page {hit.page}" if hit.page else ""
    return where_text(hit.source, hit.line) + page + unreadable(hit)


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
