"""A document on its way into the store, and its passages in the queue."""

from __future__ import annotations

from dataclasses import dataclass, field

from ai_os_diffusion.contracts import Chunk
from ai_os_diffusion.ingestion import Reading

__all__ = ["Arrival", "QueuedPassage"]


@dataclass(slots=True, eq=False)
class Arrival:
    """A document on its way into the store.

    Attributes:
        source: its path or address.
        state: digest of it.
        replaces: the store holds another state of it, and goes on holding all of that until this is whole.
        reading: where its passages come from.
        placed: memories that have a place in it.
        created: memories that it brought, with the digest of their text, while it may have to be undone.
        passages: how many were entered.
        lost: lines of passages that cannot be kept, by the reason.
    """

    source: str
    state: str
    replaces: bool
    reading: Reading | None = None
    placed: dict[str, None] = field(default_factory=dict)
    created: list[tuple[str, str]] = field(default_factory=list)
    passages: int = 0
    lost: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueuedPassage:
    """A passage of a document, or its end."""

    arrival: Arrival
    chunk: Chunk | None = None
    is_last: bool = False
    content_hash: str = ""
