"""Cosines of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ai_os_diffusion.utils.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["cosines", "unit_rows"]


def unit_rows(vectors: ArrayLike) -> NDArray[Any]:
    """Scale vectors to length 1; a vector of zeros stays one.

    Args:
        vectors: [n, dim]; [dim] is a batch of one.

    Returns:
        float32[n, dim].
    """
    import numpy as np

    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def cosines(a: ArrayLike, b: ArrayLike) -> NDArray[Any]:
    """Cosines of every pair.

    Args:
        a: [n, dim].
        b: [m, dim].

    Returns:
        float32[n, m].

    Raises:
        InferenceError: the vectors differ in length.
    """
    left, right = unit_rows(a), unit_rows(b)
    if left.shape[1] != right.shape[1]:
        raise InferenceError(f"vectors of {left.shape[1]} and {right.shape[1]} numbers; expected the same")
    products: NDArray[Any] = left @ right.T
    return products
