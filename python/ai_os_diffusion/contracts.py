"""The values that pass between layers, and the protocols they are asked for by.

Nothing here computes: a type in this file is known to every layer above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunk", "Hit", "Memory", "Message", "Metadata", "TokenCounter"]

Metadata = Mapping[str, Any]
"""JSON-able values by name."""


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


class Memory(TypedDict):
    """A stored memory, as `ArrowStorage` returns it. Times are seconds since the epoch."""

    memory_id: str
    content: str
    embedding: NDArray[np.float32]
    metadata: dict[str, Any]
    created_at: float
    updated_at: float


Hit = tuple[Memory, float]
"""A memory and its similarity to the query; higher is nearer."""


class Chunk(NamedTuple):
    """A passage of a document.

    Attributes:
        text: the passage itself.
        source: path or address of the document.
        line: 1-based line where the passage begins; for a PDF, of its page's text.
        end_line: 1-based line of its last character.
        headings: titles above the passage, outermost first.
        metadata: what else the reader knows (kind, page, symbol, ...).
    """

    text: str
    source: str
    line: int
    end_line: int
    headings: tuple[str, ...] = ()
    metadata: Metadata = MappingProxyType({})


class TokenCounter(Protocol):
    """Counts the tokens of texts, special tokens left out."""

    def __call__(self, texts: Sequence[str], /) -> Sequence[int] | NDArray[np.int64]:
        """Count the tokens of each text."""
        ...
