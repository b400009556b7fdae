"""What the store holds of which document, and what a document's new state changes in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_os_diffusion.contracts import Chunk, Metadata
from ai_os_diffusion.ingestion.chunker import embedding_text

__all__ = ["Change", "Ledger", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """One occurrence of a passage: where it stands, in which state of its document.

    Attributes:
        source: path or address of the document.
        source_hash: digest of the document and of the way it was cut.
        chunk: ordinal of the passage in its document, from 0.
        chunks: number of passages of the document.
        line: first line. end_line: last line.
        details: what the reader knew (page, symbol, record).
    """

    source: str
    source_hash: str
    chunk: int
    chunks: int
    line: int
    end_line: int
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, Any]:
        """The place as JSON-able values."""
        return {
            "source": self.source,
            "source_hash": self.source_hash,
            "chunk": self.chunk,
            "chunks": self.chunks,
            "line": self.line,
            "end_line": self.end_line,
            **self.details,
        }


@dataclass(slots=True)
class _Entry:
    """A passage in the store, under one id, at every place where it stands."""

    memory_id: str
    content_hash: str
    common: dict[str, Any]
    places: list[Place]

    def to_metadata(self) -> dict[str, Any]:
        first, *others = self.places
        metadata = {**self.common, **first.to_metadata(), "content_hash": self.content_hash}
        if others:
            metadata["also"] = [place.to_metadata() for place in others]
            metadata["sources"] = sorted({place.source for place in self.places})
        return metadata


@dataclass(frozen=True, slots=True)
class Change:
    """What one document changes in the store.

    Attributes:
        added: passages to embed and save, by memory id.
        touched: ids of memories whose metadata changed (lines moved, a duplicate came or went).
        removed: ids of memories that stand nowhere any more.
        merged: passages of the document that the store holds already, from another place.
        replaces: the store holds another state of the document.
    """

    added: Mapping[str, Chunk]
    touched: frozenset[str]
    removed: frozenset[str]
    merged: int = 0
    replaces: bool = False


class Ledger:
    """Knows every ingested passage of a store by content and by document.

    A passage that stands in several places is one memory: its metadata names the first place, the others
    under `also`, and all documents under `sources`. It is removed when its last place is. Memories that
    were not ingested (no `content_hash`) are never touched.
    """

    def __init__(self, held: Iterable[tuple[str, Metadata]]) -> None:
        """Take stock.

        Args:
            held: (memory id, metadata) of every memory of the store.
        """
        self._by_hash: dict[str, _Entry] = {}
        self._by_id: dict[str, _Entry] = {}
        self._by_source: dict[str, dict[str, _Entry]] = {}
        for memory_id, metadata in held:
            if metadata.get("content_hash"):
                self._enter(_entry(memory_id, metadata))

    @property
    def sources(self) -> frozenset[str]:
        """Every document that has a passage in the store."""
        return frozenset(self._by_source)

    def is_current(self, source: str, source_hash: str) -> bool:
        """Whether the store holds every passage of exactly this state of a document."""
        places = [place for entry in self._of(source) for place in entry.places if place.source == source]
        return (
            bool(places)
            and all(place.source_hash == source_hash for place in places)
            and len({place.chunk for place in places}) == places[0].chunks
        )

    def replace(self, source: str, source_hash: str, kind: str, chunks: Sequence[Chunk]) -> Change:
        """Enter a document's passages in place of those it had.

        Args:
            source: path or address of the document.
            source_hash: digest of its new state.
            kind: the reader that took it.
            chunks: its passages in order; none removes the document.
        """
        states = {
            place.source_hash
            for entry in self._of(source)
            for place in entry.places
            if place.source == source
        }
        before = {entry.memory_id: entry.to_metadata() for entry in self._of(source)}
        for entry in self._of(source):
            entry.places = [place for place in entry.places if place.source != source]
        added: dict[str, Chunk] = {}
        merged = 0
        for ordinal, chunk in enumerate(chunks):
            place = Place(
                source, source_hash, ordinal, len(chunks), chunk.line, chunk.end_line, dict(chunk.metadata)
            )
            content_hash = _digest(embedding_text(chunk))
            known = self._by_hash.get(content_hash)
            if known is None:
                common = {"kind": kind, "headings": list(chunk.headings)}
                entry = _Entry(_memory_id(source, content_hash), content_hash, common, [])
                added[entry.memory_id] = chunk
            else:
                entry = known
            if entry.places:
                merged += 1
                before.setdefault(entry.memory_id, entry.to_metadata())
            entry.places.append(place)
            self._enter(entry)
        touched, removed = self._settle(source, before, added)
        return Change(added, touched, removed, merged, bool(states - {source_hash}))

    def metadata(self, memory_id: str) -> dict[str, Any]:
        """The metadata a memory is to be saved with, by its present places."""
        return self._by_id[memory_id].to_metadata()

    def _settle(
        self, source: str, before: Mapping[str, dict[str, Any]], added: Mapping[str, Chunk]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Drop what stands nowhere any more; returns the touched and the removed ids."""
        removed, touched = set(), set()
        for memory_id, metadata in before.items():
            entry = self._by_id[memory_id]
            if not entry.places:
                removed.add(memory_id)
                del self._by_id[memory_id], self._by_hash[entry.content_hash]
            elif entry.to_metadata() != metadata and memory_id not in added:
                touched.add(memory_id)
        still = {
            entry.memory_id: entry
            for entry in self._of(source)
            if any(place.source == source for place in entry.places)
        }
        if still:
            self._by_source[source] = still
        else:
            self._by_source.pop(source, None)
        return frozenset(touched), frozenset(removed)

    def _of(self, source: str) -> list[_Entry]:
        return list(self._by_source.get(source, {}).values())

    def _enter(self, entry: _Entry) -> None:
        self._by_hash[entry.content_hash] = entry
        self._by_id[entry.memory_id] = entry
        for place in entry.places:
            self._by_source.setdefault(place.source, {})[entry.memory_id] = entry


_PLACE_FIELDS = ("source", "source_hash", "chunk", "chunks", "line", "end_line")
_COMMON_FIELDS = ("kind", "headings")


def _entry(memory_id: str, metadata: Metadata) -> _Entry:
    common = {name: metadata[name] for name in _COMMON_FIELDS if name in metadata}
    first = {
        name: value
        for name, value in metadata.items()
        if name not in (*_COMMON_FIELDS, "content_hash", "also", "sources")
    }
    places = [_place(values) for values in (first, *metadata.get("also", ()))]
    return _Entry(memory_id, str(metadata["content_hash"]), common, places)


def _place(values: Metadata) -> Place:
    details = {name: value for name, value in values.items() if name not in _PLACE_FIELDS}
    return Place(
        str(values.get("source", "")),
        str(values.get("source_hash", "")),
        int(values.get("chunk", 0)),
        int(values.get("chunks", 1)),
        int(values.get("line", 1)),
        int(values.get("end_line", 1)),
        details,
    )


def _memory_id(source: str, content_hash: str) -> str:
    """Stays the same while the passage stands in its document, whatever changes around it."""
    return _digest(source, content_hash)


def _digest(*parts: str) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
