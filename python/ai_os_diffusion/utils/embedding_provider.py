"""Vectors from wherever they are made: the protocol, a remote service, a cache before either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EmbeddingProvider"]


@runtime_checkable
class EmbeddingProvider(Protocol):
    """Something that turns texts into float32 vectors; `ArrowEngine` is one."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """Embed texts: float32[dim] for a string, float32[n, dim] for a sequence."""
        ...

    def encode_query(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """Embed questions."""
        ...

    def encode_document(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """Embed passages."""
        ...
