"""Where an answer or a hit stands, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.output import note, show_line, where_text
from ai_os_diffusion.utils.visible_text import visible_line

if TYPE_CHECKING:
    from ai_os_diffusion.answers.answer import Answer, Citation
    from ai_os_diffusion.answers.recall import OtherPlace, RecallHit, RecallResult

__all__ = [
    "citation_of",
    "note_index",
    "nothing_fits",
    "show_citations",
    "titles_above",
    "unreadable",
    "why_abstained",
]

_INDENT = "    "
_TAB = 4
# Words of a question that a message names; --json has all.
_NAMED = 5

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
    above = titles_above(citation)
    quote, start, end = citation.quote, citation.start, citation.end
    if " ".join(quote.split()) == said:
        show_line(where + above)
    elif "\n" in quote:
        show_line(where + above)
        _show_block(quote, start, end)
    else:
        show_line(f"{where}  “{quote[:start]}", quote[start:end], f"{quote[end:]}”")


def _show_block(quote: str, start: int, end: int) -> None:
    """The lines of a quote, deeper than any line of ours stands; what answers stands out.

    The first has lost the indentation that it had in its document: of what the others share no more than a
    hanging one is left.
    """
    lines = quote.split("\n")
    shared = min((_depth(line) for line in lines[1:] if line.strip()), default=0)
    at = 0
    for number, line in enumerate(lines):
        first, last = (min(max(place - at, 0), len(line)) for place in (start, end))
        at += len(line) + 1
        told = len(line) - len(line.lstrip())
        depth = _depth(line) - (max(0, shared - len(_INDENT)) if number else 0)
        pieces = (line[told:first], line[max(told, first) : last], line[max(told, last) :])
        before, strong, rest = (piece.expandtabs(_TAB) for piece in pieces)
        show_line(_INDENT + " " * depth + before, strong, rest)


def _depth(line: str) -> int:
    """Columns before what a line says; all of it where that is nothing."""
    line = line.expandtabs(_TAB)
    return len(line) - len(line.lstrip(" "))


def citation_of(hit: RecallHit) -> str:
    """Where a hit stands: "file:line", with the page or the file within, or the memory's id."""
    if not hit.source:
        return hit.memory_id
    return where_text(hit.source, hit.line) + _within(hit) + unreadable(hit)


def _within(place: RecallHit | Citation) -> str:
    """What tells more than a line: the page, or the file within a document that the line is of."""
    page = f" page {place.page}" if place.page else ""
    return f"{page} in {visible_line(place.part)}" if place.part else page


def titles_above(place: RecallHit | Citation) -> str:
    """What to say of the titles behind a place."""
    from ai_os_diffusion.ingestion import context_line

    return f"  {context_line(place.headings)}" if place.headings else ""


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
        return nothing_fits(answer, answer.unknown_names, filtered=filtered)
    told = "answer this"
    if answer.reason == "unknown_names":
        told = f"speak of {_named(answer.unknown_names)}"
    return f"the passages that are near do not {told}; aios recall shows them{_foreign(answer)}"


def nothing_fits(found: RecallResult | Answer, unknown_names: Sequence[str] = (), *, filtered: bool) -> str:
    """Say why nothing was found.

    Args:
        found: what came of the question.
        unknown_names: names of the question that stand nowhere in what is nearest.
        filtered: only some memories were asked for.
    """
    if found.nearest is None and filtered:
        return "no memory meets the filter; aios memory list --json shows what metadata there is"
    if found.nearest is None:
        return "memory holds nothing here; add documents with: aios add PATH"
    expected = "" if found.threshold is None else f", expected {found.threshold:.2f} or more"
    also = f", and none speaks of {_named(unknown_names)}" if unknown_names else ""
    nearest = f"the nearest passage reaches {found.nearest:.2f}{expected}{also}"
    return f"nothing in memory fits: {nearest}{_foreign(found)}"


def note_index(found: RecallResult | Answer, *, quiet: bool) -> None:
    """Say where an index of words had to be made, beside the data."""
    if found.index not in (None, "fresh"):
        note(
            "an index of words was missing, damaged or of another version, and was made for this reply, "
            "which took longer; aios memory compact keeps one",
            quiet=quiet,
        )


def _foreign(found: RecallResult | Answer) -> str:
    """What to say of words that the encoder does not know."""
    if not found.foreign_words:
        return ""
    named = _named(found.foreign_words)
    return f"; the encoder knows {named} by single letters alone: ask in a language that it was trained on"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
