"""What a search by words replies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ai_os_diffusion.contracts import Hit, Memory

__all__ = ["Candidate", "Candidates", "IndexState", "TextHits"]

IndexState = Literal["fresh", "building", "degraded"]
"""How the words were looked for; all memories were searched in any case.

`fresh`: in indexes that were there. `building`: an index was missing or damaged and was made for this
reply, which took longer; closing the store keeps it. `degraded`: the same, for a reader, which keeps it in
memory only.
"""


class TextHits(list[Hit]):
    """Memories and their BM25 scores, best first; equal ones in the order of the ids.

    Attributes:
        state: how the words were looked for.
    """

    def __init__(self, hits: Iterable[Hit], state: IndexState) -> None:
        super().__init__(hits)
        self.state = state


class Candidate(NamedTuple):
    """A memory that a search by vector or by words found, and what both say of it.

    Attributes:
        memory: the memory.
        similarity: that of its vector to the query's, by the metric that was asked for.
        bm25: its score for the words, 0 when it has none of them.
    """

    memory: Memory
    similarity: float
    bm25: float


class Candidates(list[Candidate]):
    """The best of a search by vector and of one by words, each once: by similarity, `bm25`, and id.

    Attributes:
        state: how the words were looked for.
    """

    def __init__(self, candidates: Iterable[Candidate], state: IndexState) -> None:
        super().__init__(candidates)
        self.state = state
