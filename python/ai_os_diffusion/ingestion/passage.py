"""A passage and the places where it stands: what ingestion writes into a memory's metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ai_os_diffusion.contracts import Metadata

__all__ = ["Passage", "Place", "digest"]

# A memory that named every place of a common line would grow without end, and each change of one place
# would write all of them. What stands in more places than these is several memories of the same text.
_MAX_PLACES = 64
_MAX_METADATA_BYTES = 512 << 10
# A character of a source takes six bytes of JSON at most, and stands there twice.
_BYTES_PER_SOURCE_CHAR = 12
_BYTES_PER_PLACE = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """One occurrence of a passage: where it stands, in which state of its document.

    Attributes:
        source: path or address of the document.
        source_hash: digest of the document and of the way it was cut.
        chunk: ordinal of the passage in its document, from 0.
        chunks: number of passages of the document, known of the last one at least; else 0.
        line: first line. end_line: last line.
        details: what the reader knew (page, symbol, record).
        unreadable_since: time, in ISO 8601, since which the document could not be read; "" while it can.
    """

    source: str
    source_hash: str
    chunk: int
    chunks: int
    line: int
    end_line: int
    details: Mapping[str, Any] = field(default_factory=dict)
    unreadable_since: str = ""

    @classmethod
    def of(cls, values: Metadata) -> Place:
        """Read what `to_metadata` wrote."""
        return cls(
            str(values.get("source", "")),
            str(values.get("source_hash", "")),
            int(values.get("chunk", 0)),
            int(values.get("chunks", 0)),
            int(values.get("line", 1)),
            int(values.get("end_line", 1)),
            {name: value for name, value in values.items() if name not in _PLACE_FIELDS},
            str(values.get("unreadable_since", "")),
        )

    def to_metadata(self) -> dict[str, Any]:
        """The place as JSON-able values."""
        known = {
            "source": self.source,
            "source_hash": self.source_hash,
            "chunk": self.chunk,
            "line": self.line,
            "end_line": self.end_line,
        }
        if self.chunks:
            known["chunks"] = self.chunks
        if self.unreadable_since:
            known["unreadable_since"] = self.unreadable_since
        # What a reader calls by a name of ours does not take its place.
        return {**self.details, **known}


_PLACE_FIELDS = frozenset(
    ("source", "source_hash", "chunk", "chunks", "line", "end_line", "unreadable_since")
)
_COMMON_FIELDS = ("kind", "headings")


@dataclass(slots=True)
class Passage:
    """A passage under one id, at places where it stands.

    Attributes:
        memory_id: of the memory.
        content_hash: digest of what is embedded.
        common: the same at every place: kind and headings.
        places: where it stands. Places in documents that can be read come first.
    """

    memory_id: str
    content_hash: str
    common: Mapping[str, Any]
    places: list[Place] = field(default_factory=list)

    @classmethod
    def of(cls, memory_id: str, metadata: Metadata) -> Passage:
        """Read what `to_metadata` wrote."""
        common = {name: metadata[name] for name in _COMMON_FIELDS if name in metadata}
        own = (*_COMMON_FIELDS, "content_hash", "also", "sources")
        first = {name: value for name, value in metadata.items() if name not in own}
        places = [Place.of(values) for values in (first, *metadata.get("also", ()))]
        return cls(memory_id, str(metadata["content_hash"]), common, places)

    def to_metadata(self) -> dict[str, Any]:
        """The passage as JSON-able values; it has a place."""
        first, *others = sorted(self.places, key=lambda place: bool(place.unreadable_since))
        metadata = {**first.to_metadata(), **self.common, "content_hash": self.content_hash}
        if others:
            metadata["also"] = [place.to_metadata() for place in others]
            metadata["sources"] = sorted({place.source for place in self.places})
        return metadata

    @property
    def has_room(self) -> bool:
        """Whether it may take one more place."""
        size = sum(_BYTES_PER_PLACE + _BYTES_PER_SOURCE_CHAR * len(place.source) for place in self.places)
        return len(self.places) < _MAX_PLACES and size < _MAX_METADATA_BYTES

    def leave(self, source: str) -> None:
        """Take away all places in a document."""
        self.places = [place for place in self.places if place.source != source]

    def mark(self, source: str, unreadable_since: str) -> None:
        """Note that a document cannot be read."""
        self.places = [
            replace(place, unreadable_since=place.unreadable_since or unreadable_since)
            if place.source == source
            else place
            for place in self.places
        ]


def digest(*parts: str) -> str:
    """Name texts, each apart from the next, by 128 bits in hexadecimal."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
