"""Where an answer or a hit stands, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.output import show_line, where_text
from ai_os_diffusion.utils.visible_text import visible_line

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer, Citation
    from ai_os_diffusion.answers.recall import OtherPlace, RecallHit

__all__ = ["citation_of", "nothing_fits", "show_citations", "unreadable", "why_abstained"]

_INDENT = "    "
_TAB = 4

_ORIGINS = {
    "reader": "pointed at in the passages",
    "nearest": "the nearest passage; no reader card is here that could point at an answer",
    "ar": "in the model's words",
    "diffusion": "in the model's words, by diffusion",
}


def show_citations(answer: Answer) -> None:
    """List where the answer stands, behind it; and further answers, each with its places."""
    number = 0
    for index, statement in enumerate(answer.statements):
        show_line()
        if index:
            show_line("or: ", statement.text)
        for citation in statement.citations:
            number += 1
            _show_citation(number, citation, statement.text)
    sure = "" if answer.confidence is None else f", right with probability {answer.confidence:.2f}"
    show_line(f"{_ORIGINS[answer.mode]}{sure}")


def _show_citation(number: int, citation: Citation, said: str) -> None:
    """One line with the place and what stands there, or the place and below it the lines of a block."""
    where = where_text(citation.source, citation.line) if citation.source else citation.memory_id
    where = f"[{number}] {where}{_within(citation)}{unreadable(citation)}"
    above = f"  {' > '.join(citation.headings)}" if citation.headings else ""
    quote, start, end = citation.quote, citation.start, citation.end
    if " ".join(quote.split()) == said:
        show_line(where + above)
    elif "\n" in quote:
        show_line(where + above)
        _show_block(quote, start, end)
    else:
        show_line(f"{where}  “{quote[:start]}", quote[start:end], f"{quote[end:]}”")


def _show_block(quote: str, start: int, end: int) -> None:
    """The lines of a quote, deeper than any line of ours stands; what answers stands out."""
    at = 0
    for line in quote.split("\n"):
        first, last = (min(max(place - at, 0), len(line)) for place in (start, end))
        pieces = (line[:first], line[first:last], line[last:])
        before, strong, rest = (piece.expandtabs(_TAB) for piece in pieces)
        show_line(_INDENT + before, strong, rest)
        at += len(line) + 1


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


def why_abstained(answer: Answer, *, filtered: bool) -> str:
    """Say why nothing is answered.

    Args:
        answer: one that abstained.
        filtered: only some memories were asked.
    """
    if answer.reason in ("nothing", "far"):
        return nothing_fits(answer.nearest, answer.threshold, answer.unknown_names, filtered=filtered)
    if answer.reason == "unknown_names":
        named = _named(answer.unknown_names)
        return f"the passages that are near do not speak of {named}; aios recall shows them"
    return "the passages that are near do not answer this; aios recall shows them"


def nothing_fits(
    nearest: float | None,
    threshold: float | None,
    unknown_names: Sequence[str] = (),
    *,
    filtered: bool,
) -> str:
    """Say why nothing was found.

    Args:
        nearest: cosine of the best hit; None when there was none.
        threshold: what counts as near.
        unknown_names: names of the question that stand nowhere in what is nearest.
        filtered: only some memories were asked for.
    """
    if nearest is None and filtered:
        return "no memory meets the filter; aios memory list --json shows what metadata there is"
    if nearest is None:
        return "memory holds nothing here; add documents with: aios add PATH"
    expected = "" if threshold is None else f", expected {threshold:.2f} or more"
    also = f", and none speaks of {_named(unknown_names)}" if unknown_names else ""
    return f"nothing in memory fits: the nearest passage reaches {nearest:.2f}{expected}{also}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
