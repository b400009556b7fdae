"""Batches of ids without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion.utils.errors import InferenceError, ShapeError

__all__ = ["Ragged", "as_ids", "as_ragged"]

Ragged = tuple[NDArray[np.int32], NDArray[np.int64]]
"""int32[total] ids and int64[n + 1] offsets: sequence `i` is `ids[offsets[i]:offsets[i + 1]]`."""


def as_ids(ids: ArrayLike) -> NDArray[np.int32]:
    """One sequence of ids as int32[length].

    Raises:
        InferenceError: an id is no integer, or too large for one.
        ShapeError: there is more than one axis.
    """
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ShapeError(f"expected ids [length], got {list(array.shape)}")
    if array.size and array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.integer):
        raise InferenceError(f"expected integer ids, got {array.dtype}")
    limits = np.iinfo(np.int32)
    if array.size and (array.max() > limits.max or array.min() < limits.min):
        raise InferenceError(f"expected ids of 32 bits, got {int(array.max())}")
    return np.ascontiguousarray(array, dtype=np.int32)


def as_ragged(input_ids: Any, attention_mask: Any = None) -> Ragged:
    """Drop the padding of a batch.

    Args:
        input_ids: int[n, length], one sequence [length], or a list of sequences of any lengths.
        attention_mask: of the shape of `input_ids`, 1 for tokens and 0 for padding at either end; by
            default everything is a token.

    Raises:
        ShapeError: the mask has another shape, or its ones are interrupted.
    """
    rows = _rows(input_ids)
    if attention_mask is not None:
        masks = _rows(attention_mask)
        if [len(mask) for mask in masks] != [len(row) for row in rows]:
            raise ShapeError(
                f"attention_mask has rows of {[len(mask) for mask in masks][:4]} values, "
                f"input_ids of {[len(row) for row in rows][:4]}; expected the same"
            )
        rows = [row[_span(mask, index)] for index, (row, mask) in enumerate(zip(rows, masks, strict=True))]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.concatenate(rows) if rows else np.empty(0, np.int32)
    return ids, offsets


def _rows(values: Any) -> list[NDArray[np.int32]]:
    if isinstance(values, np.ndarray):
        return [as_ids(row) for row in (values if values.ndim > 1 else values[None])]
    if hasattr(values, "numpy"):
        return _rows(values.numpy())
    nested = [np.asarray(row) for row in values]
    if nested and all(row.ndim == 0 for row in nested):
        return [as_ids(values)]
    return [as_ids(row) for row in nested]


def _span(mask: NDArray[np.int32], index: int) -> slice:
    ones = np.flatnonzero(mask)
    if not ones.size:
        raise ShapeError(f"attention_mask[{index}] is all zeros; a sequence has at least one token")
    first, last = int(ones[0]), int(ones[-1]) + 1
    if last - first != ones.size:
        raise ShapeError(f"attention_mask[{index}] has zeros between ones; expected padding at the ends only")
    return slice(first, last)
