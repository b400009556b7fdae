"""What a reader found in the passages of a question, as answers that compete."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ai_os_diffusion.answers.names import names_of, unknown_names
from ai_os_diffusion.answers.passage_block import PassageBlock, block_at
from ai_os_diffusion.answers.recall import RecallHit

if TYPE_CHECKING:
    from ai_os_diffusion.inference.reading.reading import Reading

__all__ = ["Candidate", "Place", "agree", "candidates", "words_of"]

_SEEN = ("margin", "gap", "behind", "relevance", "relevance_gap", "place", "similarity", "size")

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

    @property
    def block(self) -> PassageBlock:
        """The part of the passage that is shown: its sentence, or more where the reader sees no answer."""
        return block_at(self.hit.text, self.start, self.end, widely=self.margin < 0)


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


def candidates(question: str, hits: Sequence[RecallHit], readings: Sequence[Reading]) -> list[Candidate]:
    """Join what was found to answers, and tell what is known of each.

    The features, of the best place of an answer:

    - of its span: `margin`, and `above`, what of it is above "no answer"; `gap` to the best answer that
      differs; `behind`, how far it is below the best margin of its passage; `share`, the logarithm of its
      part in everything that was found and in "no answer" (log-softmax over all spans), and `doubt`, the part
      of "no answer"; `agreement`, how much margin further places add (log-sum-exp); `length`, the logarithm
      of its words; `echo`, the share of them that stand in the question;
    - of the part of the passage that would be shown for it (`Place.block`): `begins`, whether the span is its
      beginning; `size`, the logarithm of its characters; `cover`, the share of the question's words in it;
    - of the passage: `relevance`, and `relevance_gap` to the most relevant one; `similarity`, and its `lead`
      over the nearest other one; `place`, the logarithm of its place among what was recalled; `unknown`, the
      share of the question's names that stand neither in it nor above it.

    A span that stands out is judged by other evidence than a block that is merely near: of `_SEEN` each
    counts anew, times the reader's chance that any passage answers (the sigmoid of the best margin).

    Args:
        question: what was asked.
        hits: passages that were read, as they were recalled.
        readings: of each, what was found.

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
    total = _log_sum_exp([place.margin for place in found] + [0.0])
    of_passage = _Passages(question, hits, readings)
    kept = []
    for number, (words, places) in enumerate(groups):
        best = places[0]
        features = {
            "margin": best.margin,
            "above": max(0.0, best.margin),
            "share": best.margin - total,
            "doubt": math.exp(-total),
            "agreement": _log_sum_exp([place.margin for place in places]) - best.margin,
            "length": math.log1p(len(words)),
            **of_passage.features(best, words),
        }
        if len(groups) > 1:
            features["gap"] = best.margin - groups[0 if number else 1][1][0].margin
        seen = 1.0 / (1.0 + math.exp(-max(-60.0, groups[0][1][0].margin)))
        features |= {f"{name} seen": features[name] * seen for name in _SEEN if name in features}
        kept.append(Candidate(best.hit.text[best.start : best.end], tuple(places), features))
    return kept


class _Passages:
    """What is known of an answer from the passage it stands in."""

    def __init__(self, question: str, hits: Sequence[RecallHit], readings: Sequence[Reading]) -> None:
        self._hits = hits
        self._asked, self._names = set(words_of(question)), names_of(question)
        self._order = {hit.memory_id: number for number, hit in enumerate(hits)}
        self._readings = {hit.memory_id: own for hit, own in zip(hits, readings, strict=True)}
        self._relevant = [own.relevance for own in readings if own.relevance is not None]

    def features(self, place: Place, words: Sequence[str]) -> dict[str, float]:
        """Those of a place, whose span has these words."""
        hit = place.hit
        reading = self._readings[hit.memory_id]
        block = place.block
        shown = set(words_of(hit.text[block.start : block.end]))
        features = {
            "behind": place.margin - reading.margin,
            "echo": sum(word in self._asked for word in words) / len(words) if words else 0.0,
            "begins": float(not hit.text[block.start : place.start].strip()),
            "size": math.log1p(block.end - block.start),
            "cover": len(self._asked & shown) / len(self._asked) if self._asked else 0.0,
            "similarity": hit.similarity,
            "place": math.log1p(self._order[hit.memory_id]),
            "unknown": len(unknown_names(self._names, [hit])) / len(self._names) if self._names else 0.0,
        }
        near = [one.similarity for one in self._hits if one.memory_id != hit.memory_id]
        if near:
            features["lead"] = hit.similarity - max(near)
        if reading.relevance is not None:
            features["relevance"] = reading.relevance
            features["relevance_gap"] = max(self._relevant) - reading.relevance
        return features


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
