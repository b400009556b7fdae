"""The forms in which embeddings leave the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import InferenceError

__all__ = ["PRECISIONS", "quantize_embeddings", "truncate_embeddings"]

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")


def truncate_embeddings(
    vectors: NDArray[np.float32], dimension: int | None, normalize: bool
) -> NDArray[np.float32]:
    """Keep the first `dimension` numbers of each row, scaled to length 1 again if `normalize`.

    Raises:
        InferenceError: the rows are shorter, or `dimension` is below 1.
    """
    if dimension is None:
        return vectors
    if not 1 <= dimension <= vectors.shape[1]:
        raise InferenceError(f"truncate_dim is {dimension}, expected 1 to {vectors.shape[1]}")
    kept = np.ascontiguousarray(vectors[:, :dimension])
    if normalize:
        lengths = np.linalg.norm(kept, axis=1, keepdims=True)
        kept /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return kept


def quantize_embeddings(vectors: NDArray[np.float32], precision: str) -> NDArray[Any]:
    """Rows in another number type.

    float16 rounds. int8 is `round(127 x)` and uint8 is 128 more; both need vectors of length 1 and do not
    depend on the batch. ubinary packs the signs, eight a byte, positive as 1, first dimension highest;
    binary is ubinary less 128 as int8.

    Args:
        vectors: float32[n, dim].
        precision: one of `PRECISIONS`.

    Returns:
        [n, dim], or [n, ceil(dim / 8)] for the binary forms.

    Raises:
        InferenceError: the precision is unknown, or a value does not fit it.
    """
    if precision == "float32":
        return vectors
    if precision == "float16":
        return vectors.astype(np.float16)
    if precision in ("int8", "uint8"):
        if vectors.size and np.abs(vectors).max() > 1.0001:
            raise InferenceError(
                f"precision {precision!r} needs vectors of length 1; encode with normalize=True"
            )
        codes = np.rint(np.clip(vectors, -1, 1) * 127).astype(np.int8)
        return codes if precision == "int8" else (codes.astype(np.int16) + 128).astype(np.uint8)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    raise InferenceError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
