"""What the store holds of which document: enough to tell what is current and which passages are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, KeysView, Sequence
from dataclasses import dataclass, field

from ai_os_diffusion.contracts import Metadata
from ai_os_diffusion.ingestion.passage import Passage, digest

__all__ = ["Ledger"]


@dataclass(slots=True)
class _Held:
    """What the store holds of a document.

    Attributes:
        memory_ids: memories with a place in it.
        source_hash: its state; None when there are passages of several.
        places: number of passages. chunks: how many it has.
        unreadable: number of passages that are marked as of a document that cannot be read.
    """

    memory_ids: list[str] = field(default_factory=list)
    source_hash: str | None = ""
    places: int = 0
    chunks: int = 0
    unreadable: int = 0


class Ledger:
    """Knows the ingested passages of a store by content, and its documents by name.

    It keeps ids and digests alone, some 300 bytes a memory: where a passage stands is read from the store
    when that changes. Memories that were not ingested (no `content_hash`) are never touched.
    """

    def __init__(self, held: Iterable[tuple[str, Metadata]]) -> None:
        """Take stock.

        Args:
            held: (memory id, metadata) of every memory of the store.
        """
        # Of the memories of one text, the one that takes further places, and the others.
        self._open: dict[str, str] = {}
        self._full: dict[str, set[str]] = {}
        self._documents: dict[str, _Held] = {}
        for memory_id, metadata in held:
            if metadata.get("content_hash"):
                self._take_stock(memory_id, metadata)

    @property
    def sources(self) -> KeysView[str]:
        """Every document that has a passage in the store."""
        return self._documents.keys()

    def is_current(self, source: str, source_hash: str) -> bool:
        """Whether the store holds exactly this state of a document, whole and not marked as unreadable."""
        held = self._documents.get(source)
        return (
            held is not None
            and not held.unreadable
            and held.source_hash == source_hash
            and held.places == held.chunks
        )

    def replaces(self, source: str, source_hash: str) -> bool:
        """Whether the store holds another state of a document."""
        held = self._documents.get(source)
        return held is not None and held.source_hash != source_hash

    def is_readable(self, source: str) -> bool:
        """Whether a document of the store could be read when it was last looked at."""
        held = self._documents[source]
        return held.unreadable < held.places

    def memories_of(self, source: str) -> Sequence[str]:
        """Ids of the memories that have a place in a document."""
        held = self._documents.get(source)
        return held.memory_ids if held else ()

    def memory_of(self, content_hash: str) -> str | None:
        """Id of the memory of a text that takes further places of it."""
        return self._open.get(content_hash)

    def new_memory(self, source: str, content_hash: str) -> str:
        """Name one more memory of a text; it takes further places from now on.

        The first one's id stays the same while the passage stands in its document, whatever changes around.
        """
        known = self._open.get(content_hash)
        full = self._full.setdefault(content_hash, set()) if known else self._full.get(content_hash, set())
        if known:
            full.add(known)
        numbers = (str(number) for number in itertools.count(len(full)))
        names = (digest(source, content_hash, *([number] if full else [])) for number in numbers)
        self._open[content_hash] = next(name for name in names if name not in full)
        return self._open[content_hash]

    def forget_memory(self, content_hash: str, memory_id: str) -> None:
        """Note that a memory is gone."""
        if self._open.get(content_hash) == memory_id:
            del self._open[content_hash]
        elif memory_id in (full := self._full.get(content_hash, set())):
            full.discard(memory_id)

    def enter(self, source: str, memory_ids: Iterable[str], source_hash: str | None, chunks: int) -> None:
        """Note what is now held of a document, all of its `chunks` passages; none removes it.

        Args:
            source: its path or address.
            memory_ids: of its passages.
            source_hash: digest of its state; None when a passage is missing, so that it is looked at again.
            chunks: number of its passages.
        """
        ids = list(memory_ids)
        if ids:
            self._documents[source] = _Held(ids, source_hash, chunks, chunks)
        else:
            self._documents.pop(source, None)

    def mark(self, source: str) -> None:
        """Note that a document cannot be read."""
        held = self._documents[source]
        held.unreadable = held.places

    def _take_stock(self, memory_id: str, metadata: Metadata) -> None:
        content_hash, also = str(metadata["content_hash"]), metadata.get("also") or ()
        known = self._open.get(content_hash)
        if known is None or not also or Passage.of(memory_id, metadata).has_room:
            self._open[content_hash] = memory_id
        if known is not None:
            full = self._full.setdefault(content_hash, set())
            full.add(known if self._open[content_hash] == memory_id else memory_id)
        for place in (metadata, *also):
            source, state = str(place.get("source", "")), str(place.get("source_hash", ""))
            held = self._documents.get(source)
            if held is None:
                held = self._documents[source] = _Held(source_hash=state)
            if not held.memory_ids or held.memory_ids[-1] is not memory_id:
                held.memory_ids.append(memory_id)
            if held.source_hash != state:
                held.source_hash = None
            held.places += 1
            held.chunks = max(held.chunks, int(place.get("chunks", 0)))
            held.unreadable += bool(place.get("unreadable_since"))
