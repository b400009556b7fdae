"""What a reader found in the passages of a question, as answers that compete."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ai_os_diffusion.answers.names import names_of, unknown_names
from ai_os_diffusion.answers.recall import RecallHit

if TYPE_CHECKING:
    from ai_os_diffusion.inference.reading.reading import Reading

__all__ = ["Candidate", "Place", "agree", "candidates", "words_of"]

_WORD = re.compile(r"\w+")


class Place(NamedTuple):
    """Where an answer stands.

    Attributes:
        hit: the passage.
        start: where in it the answer begins, in characters.
        end: where it ends.
        margin: of the reader, over "no answer".
    """

    hit: RecallHit
    start: int
    end: int
    margin: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer, and everywhere that the passages give it.

    Attributes:
        text: as it stands at the first place.
        places: by margin, the best first; their texts agree.
        features: what is known of its being right, by name; see `candidates`.
    """

    text: str
    places: tuple[Place, ...]
    features: Mapping[str, float] = field(default_factory=dict)

    @property
    def margin(self) -> float:
        """Of the best place."""
        return self.places[0].margin


def candidates(
    question: str, hits: Sequence[RecallHit], readings: Sequence[Reading], most: int = 5
) -> list[Candidate]:
    """Join what was found to answers, and tell what is known of each.

    The features: `margin`; `gap` to the best answer that differs; `share`, the logarithm of the answer's part
    in everything that was found and in "no answer" (log-softmax over all spans); `relevance` of the passage
    and its `relevance_gap` to the most relevant one; `similarity` of the passage, its `lead` over the nearest
    other one, and `place`, the logarithm of its place among what was recalled; `agreement`, how much margin
    its further places add (log-sum-exp); `echo`, the share of its words that stand in the question; `length`,
    the logarithm of its words; `unknown`, the share of the question's names that stand neither in the passage
    nor above it.

    Args:
        question: what was asked.
        hits: passages that were read, as they were recalled.
        readings: of each, what was found.
        most: answers to return at most.

    Returns:
        Answers by margin, best first.
    """
    found = [
        Place(hit, span.start, span.end, span.margin)
        for hit, reading in zip(hits, readings, strict=True)
        for span in reading.spans
    ]
    groups: list[tuple[list[str], list[Place]]] = []
    for place in sorted(found, key=lambda place: -place.margin):
        said = words_of(place.hit.text[place.start : place.end])
        for words, places in groups:
            if agree(words, said):
                places.append(place)
                break
        else:
            groups.append((said, [place]))
    asked, names = set(words_of(question)), names_of(question)
    total = _log_sum_exp([place.margin for place in found] + [0.0])
    order = {hit.memory_id: number for number, hit in enumerate(hits)}
    relevance = {hit.memory_id: own.relevance for hit, own in zip(hits, readings, strict=True)}
    relevant = [value for value in relevance.values() if value is not None]
    kept = []
    for number, (words, places) in enumerate(groups[:most]):
        hit, start, end, margin = places[0]
        other = next((own[0].margin for index, (_, own) in enumerate(groups) if index != number), None)
        features = {
            "margin": margin,
            "share": margin - total,
            "similarity": hit.similarity,
            "place": math.log1p(order[hit.memory_id]),
            "agreement": _log_sum_exp([place.margin for place in places]) - margin,
            "echo": sum(word in asked for word in words) / len(words) if words else 0.0,
            "length": math.log1p(len(words)),
            "unknown": len(unknown_names(names, [hit])) / len(names) if names else 0.0,
        }
        if other is not None:
            features["gap"] = margin - other
        near = [one.similarity for one in hits if one.memory_id != hit.memory_id]
        if near:
            features["lead"] = hit.similarity - max(near)
        own = relevance[hit.memory_id]
        if own is not None:
            features["relevance"] = own
            features["relevance_gap"] = max(relevant) - own
        kept.append(Candidate(hit.text[start:end], tuple(places), features))
    return kept


def words_of(text: str) -> list[str]:
    """The words of a text, for comparing: without case, marks and what stands between them."""
    return _WORD.findall(text.casefold())


def agree(words: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two answers say the same: one is a part of the other, word by word."""
    short, long = sorted((words, others), key=len)
    return bool(short) and any(
        list(long[at : at + len(short)]) == list(short) for at in range(len(long) - len(short) + 1)
    )


def _log_sum_exp(values: Sequence[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))
