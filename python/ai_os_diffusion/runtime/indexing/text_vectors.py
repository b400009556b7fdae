"""Vectors of texts, where a text that cannot be embedded costs itself alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.contracts import Embedder
from ai_os_diffusion.utils.errors import DiffusionError

__all__ = ["embed_each"]

# Texts embedded between two reports of progress; short enough that Ctrl-C is heard soon.
_SLICE = 64
# What every encoder embeds unless nothing can be.
_PLAIN = "text"


def embed_each(
    embedder: Embedder, texts: Sequence[str], tell: Callable[[int], None]
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
        vectors += _halved(embedder, part)
        tell(len(part))
    return vectors


def _halved(embedder: Embedder, texts: Sequence[str]) -> list[NDArray[np.float32] | str]:
    """Embed together what can be; of texts that cannot, halves, until each is alone."""
    try:
        return [_checked(vector) for vector in embedder.encode_document(list(texts))]
    except DiffusionError as error:
        if len(texts) == 1:
            embedder.encode_document([_PLAIN])
            return [f"cannot be embedded: {error}"]
    middle = len(texts) // 2
    return _halved(embedder, texts[:middle]) + _halved(embedder, texts[middle:])


def _checked(vector: NDArray[np.float32]) -> NDArray[np.float32] | str:
    if not np.isfinite(vector).all():
        return "cannot be embedded: its vector holds NaN or infinity"
    if not vector.any():
        return "cannot be embedded: its vector is zero"
    return vector
