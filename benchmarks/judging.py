"""How answers and passages are judged by script: texts made comparable, and what must stand in them.

What is looked for is a regular expression, written by who read the document.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# An answer that says everything says nothing: of a long one only so much counts.
READ_CHARS = 800

_EAST_ASIAN = r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
# What typesetting adds: a hyphen where a line ends, as groff and PDF write it.
_BROKEN_WORD = re.compile(r"[\u2010\u00ad\ufffe]\s*(?=\w)")
_EAST_ASIAN_GAP = re.compile(rf"(?<={_EAST_ASIAN}) | (?={_EAST_ASIAN})")


def flat(text: str) -> str:
    """A text as one line: words joined again, any space as one, none beside East Asian characters."""
    text = unicodedata.normalize("NFKC", _BROKEN_WORD.sub("", text))
    return _EAST_ASIAN_GAP.sub("", " ".join(text.split()))


def says(text: str, patterns: Iterable[str]) -> bool:
    """Whether a text that is `flat` says one of several things, in any case of letters.

    Words end where ASCII's do: between `-t` and East Asian characters stands no space.
    """
    return any(re.search(pattern, text, re.IGNORECASE | re.ASCII) for pattern in patterns)


def is_right(answer: str, groups: Sequence[Sequence[str]]) -> bool:
    """Whether an answer holds one pattern of every group, where a reader still reads."""
    read = flat(answer)[:READ_CHARS]
    return bool(groups) and all(says(read, patterns) for patterns in groups)


def is_misleading(answer: str, groups: Sequence[Sequence[str]], misleading: Sequence[str]) -> bool:
    """Whether an answer that is not right states what is known to be wrong."""
    return not is_right(answer, groups) and says(flat(answer)[:READ_CHARS], misleading)


@dataclass(frozen=True, slots=True)
class Said:
    """What a reader sees of an answer.

    Attributes:
        text: what is stated.
        shown: the same with what is quoted for it.
        sources: where the quotes stand.
        declined: nothing was answered.
        confidence: how likely it is right, as it says itself.
    """

    text: str
    shown: str
    sources: tuple[str, ...]
    declined: bool
    confidence: float = 0.0

    @classmethod
    def of(cls, answer: Any) -> Said:
        """Read an `Answer`: its text, its citations and whether it abstained."""
        quotes = [citation.quote for citation in answer.citations]
        more = [quote for quote in quotes if quote not in answer.text]
        return cls(
            answer.text,
            "\n".join([answer.text, *more]),
            tuple(citation.source for citation in answer.citations),
            answer.abstained or not answer.text.strip(),
            answer.confidence or 0.0,
        )


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """How often a right answer scores above a wrong one, ties half; None where one kind is missing."""
    above = [score for score, is_so in zip(scores, right, strict=True) if is_so]
    below = [score for score, is_so in zip(scores, right, strict=True) if not is_so]
    if not above or not below:
        return None
    wins = sum((high > low) + (high == low) / 2 for high in above for low in below)
    return wins / (len(above) * len(below))


def calibration_error(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> float | None:
    """Expected calibration error, over bins of equal width (arXiv:1706.04599); None of no answers."""
    if not scores:
        return None
    within: dict[int, list[tuple[float, bool]]] = {}
    for score, is_so in zip(scores, right, strict=True):
        within.setdefault(min(int(score * bins), bins - 1), []).append((score, is_so))
    return sum(abs(sum(score - is_so for score, is_so in some)) for some in within.values()) / len(scores)
