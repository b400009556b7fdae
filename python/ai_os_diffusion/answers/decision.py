"""From what a reader found to what is said: rank, decide, say; or why nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ai_os_diffusion.answers.answer import Answer, Citation, Reason, Statement
from ai_os_diffusion.answers.candidates import Candidate
from ai_os_diffusion.answers.judge import Judge, Judged
from ai_os_diffusion.answers.names import names_of, unknown_names
from ai_os_diffusion.answers.recall import RecallResult

__all__ = ["decide", "statement_of", "why_nothing"]

_PAIRS = (("`", "`"), ('"', '"'), ("“", "”"), ("«", "»"), ("(", ")"), ("[", "]"), ("{", "}"))


def decide(found: RecallResult, candidates: Sequence[Candidate], judge: Judge) -> Answer:
    """Answer with what is likely right, or abstain; passages with likelier answers come first in either case.

    Args:
        found: what was recalled.
        candidates: what a reader found in it.
        judge: knows how likely each is right.
    """
    ranked = judge.ranked(candidates)
    first = [one.candidate.places[0].hit for one in ranked]
    found = replace(found, hits=tuple({hit.memory_id: hit for hit in (*first, *found.hits)}.values()))
    shown: list[Judged] = []
    statements: list[Statement] = []
    for one in ranked:
        if not judge.is_worth_showing(one, shown):
            break
        statement = statement_of(one)
        # What is shown for an answer is not shown again for a part of it, nor for more around it.
        if not any(_overlap(statement, before) for before in statements):
            shown.append(one)
            statements.append(statement)
    if statements:
        return Answer.of(found, tuple(statements), "reader")
    reason, unknown = why_nothing(found)
    return Answer.of(
        found,
        (),
        "reader",
        confidence=ranked[0].confidence if ranked else None,
        reason=reason,
        unknown_names=unknown,
    )


def why_nothing(found: RecallResult) -> tuple[Reason, tuple[str, ...]]:
    """Why what was recalled does not answer, and the names of the question that stand nowhere in it."""
    if found.nearest is None:
        return "nothing", ()
    unknown = tuple(unknown_names(names_of(found.question), found.hits))
    if found.abstained or (found.threshold is not None and found.nearest < found.threshold):
        return "far", unknown
    return ("unknown_names" if unknown else "no_answer"), unknown


def statement_of(judged: Judged) -> Statement:
    """An answer with the places that give it: the best, and all others above "no answer"."""
    best, *others = judged.candidate.places
    cited: dict[tuple[str, str], Citation] = {}
    for place in (best, *(other for other in others if other.margin > 0)):
        citation = Citation.of(place)
        cited.setdefault(_quote_of(citation), citation)
    return Statement(_bare(" ".join(judged.candidate.text.split())), tuple(cited.values()), judged.confidence)


def _quote_of(citation: Citation) -> tuple[str, str]:
    return citation.memory_id, citation.quote


def _overlap(statement: Statement, before: Statement) -> bool:
    """Whether the quote of an answer's best place is a part of one of another's, or holds it."""
    best = statement.citations[0]
    return any(
        one.memory_id == best.memory_id and (one.quote in best.quote or best.quote in one.quote)
        for one in before.citations
    )


def _bare(text: str) -> str:
    """A text without a mark at an end whose partner is not in it, as "--full`" of "`--full`"."""
    for opening, closing in _PAIRS:
        is_alone = text.count(opening) == 1 if opening == closing else opening not in text
        if is_alone and text.endswith(closing):
            text = text.removesuffix(closing).rstrip()
        is_alone = text.count(opening) == 1 if opening == closing else closing not in text
        if is_alone and text.startswith(opening):
            text = text.removeprefix(opening).lstrip()
    return text
