"""From what a reader found to what is said: rank, decide, say; or why nothing is."""

from __future__ import annotations

from collections.abc import Sequence

from ai_os_diffusion.answers.answer import Answer, Citation, Reason, Statement
from ai_os_diffusion.answers.candidates import Candidate
from ai_os_diffusion.answers.judge import Judge, Judged
from ai_os_diffusion.answers.names import names_of, unknown_names
from ai_os_diffusion.answers.recall import RecallResult

__all__ = ["decide", "statement_of", "why_nothing"]


def decide(found: RecallResult, candidates: Sequence[Candidate], judge: Judge) -> Answer:
    """Answer with what is likely right, or abstain.

    Args:
        found: what was recalled.
        candidates: what a reader found in it.
        judge: knows how likely each is right.
    """
    ranked = judge.ranked(candidates)
    statements = tuple(statement_of(one) for one in ranked if ranked[0].is_believed and one.is_believed)
    if statements:
        return Answer.of(found, statements, "reader")
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
        cited.setdefault((citation.memory_id, citation.quote), citation)
    return Statement(" ".join(judged.candidate.text.split()), tuple(cited.values()), judged.confidence)
