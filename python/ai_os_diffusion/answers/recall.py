"""Questions to memories: what was found, where it stands, and whether it fits at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ai_os_diffusion.answers.names import names_of, unknown_names
from ai_os_diffusion.contracts import Hit
from ai_os_diffusion.ingestion import passage_text

__all__ = [
    "OtherPlace",
    "RecallHit",
    "RecallResult",
    "apply_threshold",
    "distinct_hits",
    "measured_threshold",
]

_MEASURED = Path(__file__).with_name("measured_encoders.json")


class OtherPlace(NamedTuple):
    """A further place where a passage stands.

    Attributes:
        source: document or address.
        line: first line in it; None where lines mean nothing.
        unreadable_since: as of a `RecallHit`.
    """

    source: str
    line: int | None
    unreadable_since: str = ""


@dataclass(frozen=True, slots=True)
class RecallHit:
    """A memory that answers to a question.

    Attributes:
        memory_id: its id in the store.
        text: its text, without the titles above it.
        similarity: cosine to the question.
        source: document or address it came from; "" for one that has none.
        line: first line in the source; None where lines mean nothing.
        end_line: last line in the source.
        headings: titles above the passage.
        page: page of a PDF, else None.
        part: file within the document that holds the passage and its lines; "" where there is none.
        also: further places where the same passage stands.
        unreadable_since: when, in ISO 8601, the document was first found to be gone or not readable any more,
            so that nobody knows whether it still says this; "" while it can be read.
        metadata: everything stored with it.
    """

    memory_id: str
    text: str
    similarity: float
    source: str = ""
    line: int | None = None
    end_line: int | None = None
    headings: tuple[str, ...] = ()
    page: int | None = None
    part: str = ""
    also: tuple[OtherPlace, ...] = ()
    unreadable_since: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_hit(cls, hit: Hit) -> RecallHit:
        """Read what ingestion wrote into a memory's metadata."""
        memory, similarity = hit
        metadata = memory["metadata"]
        headings = tuple(map(str, metadata.get("headings") or ()))
        return cls(
            memory_id=memory["memory_id"],
            text=passage_text(memory["content"], headings),
            similarity=float(similarity),
            source=str(metadata.get("source", "")),
            line=_integer(metadata.get("line")),
            end_line=_integer(metadata.get("end_line")),
            headings=headings,
            page=_integer(metadata.get("page")),
            part=str(metadata.get("part", "")),
            also=tuple(
                OtherPlace(
                    str(place.get("source", "")),
                    _integer(place.get("line")),
                    str(place.get("unreadable_since", "")),
                )
                for place in metadata.get("also") or ()
            ),
            unreadable_since=str(metadata.get("unreadable_since", "")),
            metadata=metadata,
        )

    def line_at(self, place: int) -> int | None:
        """Source line of a place in the text; the passage's own where the lines of the two differ."""
        if self.line is None or self.end_line is None:
            return self.line
        is_aligned = self.text.count("\n") == self.end_line - self.line
        return self.line + self.text.count("\n", 0, place) if is_aligned else self.line

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON-able values."""
        return {
            "memory_id": self.memory_id,
            "similarity": round(self.similarity, 6),
            "source": self.source,
            "line": self.line,
            "end_line": self.end_line,
            "page": self.page,
            "part": self.part,
            "headings": list(self.headings),
            "text": self.text,
            "also": [place._asdict() for place in self.also],
            "unreadable_since": self.unreadable_since,
        }


@dataclass(frozen=True, slots=True)
class RecallResult:
    """What memory holds on a question.

    Attributes:
        question: the question.
        hits: best first; none when it abstained.
        abstained: memory holds nothing that fits.
        nearest: similarity of the nearest hit, fitting or not; None when there was none to compare.
        threshold: similarity the nearest hit had to reach; None when every hit counts.
        index: how words were looked for: "fresh", "building" or "degraded", as `storage.IndexState`; None
            where nothing was searched.
        foreign_words: words of the question that the encoder knows by single letters alone, so that their
            meaning is hardly compared.
    """

    question: str
    hits: tuple[RecallHit, ...]
    abstained: bool
    nearest: float | None
    threshold: float | None
    index: str | None = None
    foreign_words: tuple[str, ...] = ()

    @property
    def near_hits(self) -> tuple[RecallHit, ...]:
        """The hits worth reading: the first, and those that would fit by themselves or are half as similar.

        Search always fills its number; a store may hold one passage on a question and nothing else.
        """
        enough = (self.nearest or 0.0) / 2
        if self.threshold is not None:
            enough = min(enough, self.threshold)
        return tuple(hit for number, hit in enumerate(self.hits) if not number or hit.similarity >= enough)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return {
            "question": self.question,
            "abstained": self.abstained,
            "nearest": None if self.nearest is None else round(self.nearest, 6),
            "threshold": self.threshold,
            "index": self.index,
            "foreign_words": list(self.foreign_words),
            "hits": [hit.to_dict() for hit in self.hits],
        }


def distinct_hits(search: Callable[[int], Sequence[Hit]], top_k: int, least: int = 0) -> list[Hit]:
    """Find the best passages, each text once with all its places.

    A text that stands in very many places is several memories, which are equally good.

    Args:
        search: finds so many memories or more, best first; fewer when there are no more.
        top_k: passages at most.
        least: memories to ask for at least.
    """
    asked = max(top_k + 1, least)
    while True:
        hits = search(asked)
        found: dict[tuple[bool, str], Hit] = {}
        for memory, similarity in hits:
            metadata = memory["metadata"]
            is_passage = "content_hash" in metadata
            # The same text may stand below other titles, as in copies of a document.
            text = passage_text(memory["content"], metadata.get("headings"))
            key = (is_passage, text if is_passage else memory["memory_id"])
            known = found.get(key)
            if known is None:
                found[key] = memory, similarity
                continue
            # One of more than the first is enough to know that the places of those are all here.
            metadata = known[0]["metadata"]
            first, also = dict(memory["metadata"]), memory["metadata"].get("also") or ()
            first.pop("also", None)
            places = [*(metadata.get("also") or ()), first, *also]
            found[key] = {**known[0], "metadata": {**metadata, "also": places}}, known[1]
        if len(found) > top_k or len(hits) < asked:
            return list(found.values())[:top_k]
        asked *= 4


def measured_threshold(weights_sha256: str | None) -> float | None:
    """The cosine from which passages count as near, as measured for an encoder; None where nobody has.

    Scales differ between encoders (docs/design/0501-abstention.md).

    Args:
        weights_sha256: digest of the weights that the encoder was converted from.
    """
    measured = json.loads(_MEASURED.read_text(encoding="utf-8"))["encoders"]
    return next((row["threshold"] for row in measured if row["weights_sha256"] == weights_sha256), None)


def apply_threshold(
    question: str, hits: Sequence[Hit], threshold: float | None, index: str | None = None
) -> RecallResult:
    """Keep the hits when the nearest of them fits, else abstain.

    The nearest decides for all: a question that memory can answer has one passage that is near, while
    the passages beside it may be far. A hit that holds all that the question names fits however far it is.

    Args:
        question: the question.
        hits: best first.
        threshold: similarity that the nearest one has to reach; None takes any.
        index: as of a `RecallResult`.
    """
    nearest = max((float(similarity) for _, similarity in hits), default=None)
    found = tuple(RecallHit.from_hit(hit) for hit in hits)
    names = names_of(question)
    fits = nearest is not None and (
        threshold is None
        or nearest >= threshold
        or (bool(names) and any(not unknown_names(names, [hit]) for hit in found))
    )
    return RecallResult(question, found if fits else (), not fits, nearest, threshold, index)


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None
