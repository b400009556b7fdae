"""Short answers that a model writes from whole passages: checked part by part, cited where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_os_diffusion.answers.answer import Answer, Citation
from ai_os_diffusion.answers.excerpts import Sentence, excerpts_of
from ai_os_diffusion.answers.grounding import SUPPORTED, AnswerCheck
from ai_os_diffusion.answers.recall import RecallResult
from ai_os_diffusion.answers.support import support
from ai_os_diffusion.inference.denoising.answer_evidence import without_verdict

if TYPE_CHECKING:
    from ai_os_diffusion.inference import Diffusion

__all__ = ["short_answer"]

_PARTS = re.compile(r";\s+")
_WORDS = re.compile(r"[^\W_]+")


def short_answer(
    found: RecallResult,
    sentences: Sequence[Sentence],
    written: Diffusion,
    *,
    declines: str | None,
    verdicts: Sequence[str],
    least: float = 0.0,
) -> Answer:
    """What may be shown of a short answer.

    Every part of it must be held by a sentence of the passages; where one is not, or where it is too likely
    wrong, the nearest sentences are the answer.

    Args:
        found: what was recalled.
        sentences: of the passages, nearest first; at least one.
        written: the answer.
        declines: what the model writes where the passages do not answer; None if it never does.
        verdicts: what it begins with where a reason follows: the passages hold the reason alone.
        least: probability of being right that an answer, or declining, must reach to be believed.
    """
    text = written.text.strip()
    probability = 1.0 if written.uncertainty is None else 1.0 - written.uncertainty
    if declines is not None and _plain(text) == _plain(declines) and probability >= least:
        return Answer.abstention(found, probability, written.uncertainty)
    said = without_verdict(text, verdicts)
    citations = _citations(said, found.question, sentences) if probability >= least else None
    is_held = citations is not None
    if citations is None:
        check = AnswerCheck(found.question, sentences)
        text = " ".join(check.quote())
        citations = check.citations
        probability = check.confidence(1.0)
    return Answer(
        found.question,
        text,
        not is_held,
        citations,
        probability,
        False,
        excerpts_of(sentences),
        found.nearest,
        found.threshold,
        "diffusion" if is_held else "quote",
        written.uncertainty,
    )


def _citations(text: str, question: str, sentences: Sequence[Sentence]) -> tuple[Citation, ...] | None:
    """Where the parts of an answer stand; None when one of them stands nowhere."""
    whole = _best(text, question, sentences)
    parts = (
        [whole] if whole is not None else [_best(part, question, sentences) for part in _PARTS.split(text)]
    )
    cited: dict[int, Citation] = {}
    for part in parts:
        if part is None:
            return None
        index, held = part
        cited.setdefault(index, Citation.of(sentences[index], held))
    return tuple(cited.values())


def _best(part: str, question: str, sentences: Sequence[Sentence]) -> tuple[int, float] | None:
    """The sentence that holds most of a part, by its letters or words, and how much; None when none does."""
    said = _plain(part)
    if not said.strip():
        return None
    held = [
        1.0 if said in _plain(one.text) else support(part, one.text, question, " ".join(one.hit.headings))
        for one in sentences
    ]
    index = max(range(len(held)), key=held.__getitem__)
    return (index, held[index]) if held[index] >= SUPPORTED else None


def _plain(text: str) -> str:
    """Words in lower case with a space on either side of each, so that one text is found in another."""
    return f" {' '.join(_WORDS.findall(text.lower()))} "
