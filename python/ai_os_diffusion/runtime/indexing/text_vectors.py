"""Vectors of texts, where a text that cannot be embedded costs itself alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider
from ai_os_diffusion.utils.errors import DiffusionError

__all__ = ["embed_each"]

# Texts embedded between two reports of progress; short enough that Ctrl-C is heard soon.
_SLICE = 64
# What every encoder embeds unless nothing can be.
_PLAIN = "text"


def embed_each(
    embedder: EmbeddingProvider, texts: Sequence[str], tell: Callable[[int], None]
) -> list[NDArray[np.float32] | str]:
    """Embed texts.

    Args:
        embedder: makes the vectors.
        texts: what to embed.
        tell: called with the number of each slice that is done.

    Returns:
        For each text float32[dim], or the reason why it has no vector that could be searched.

    Raises:
        DiffusionError: the embedder fails, whatever the text.
    """
    vectors: list[NDArray[np.float32] | str] = []
    for start in range(0, len(texts), _SLICE):
        part = texts[start : start + _SLICE]
        try:
            vectors += _together(embedder, part)
        except DiffusionError as error:
            # Raises where it is not for the texts: a service that is gone is not asked for each of them.
            embedder.encode_document([_PLAIN])
            vectors += _apart(embedder, part, error)
        tell(len(part))
    return vectors


def _together(embedder: EmbeddingProvider, texts: Sequence[str]) -> list[NDArray[np.float32] | str]:
    return [_checked(vector) for vector in embedder.encode_document(list(texts))]


def _apart(
    embedder: EmbeddingProvider, texts: Sequence[str], error: DiffusionError
) -> list[NDArray[np.float32] | str]:
    """Embed halves of what cannot be embedded together, until each text that cannot be is alone."""
    if len(texts) == 1:
        return [f"cannot be embedded: {error}"]
    vectors: list[NDArray[np.float32] | str] = []
    middle = len(texts) // 2
    for half in (texts[:middle], texts[middle:]):
        try:
            vectors += _together(embedder, half)
        except DiffusionError as reason:
            vectors += _apart(embedder, half, reason)
    return vectors


def _checked(vector: NDArray[np.float32]) -> NDArray[np.float32] | str:
    if not np.isfinite(vector).all():
        return "cannot be embedded: its vector holds NaN or infinity"
    if not vector.any():
        return "cannot be embedded: its vector is zero"
    return vector
