"""Batches of skills: what is wrong with one is told before a device is asked, and who computes what of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Batch", "Counted", "Share", "check_batch", "padded"]

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]
_LENGTHS = 128
"""Passes on a GPU are as long as a multiple of it, and as many of their rows count."""

Batch = tuple[Ids, Ids, Ids, Ids, Ids]
"""Ids, places in the text, levels, numbers of copies and documents, as `_native.Trainer` takes them."""


@dataclass(frozen=True)
class Share:
    """What a process computes of a batch.

    Attributes:
        batch: that part of it.
        kept: int64[n], where it stands in the whole.
        is_own: bool[n]; what is not belongs to other processes, and is seen here.
    """

    batch: Batch
    kept: NDArray[np.int64]
    is_own: NDArray[np.bool_]

    @classmethod
    def whole(cls, batch: Batch) -> Share:
        """That of a process alone."""
        kept = np.arange(len(batch[0]))
        return cls(batch, kept, np.ones(len(kept), np.bool_))

    @classmethod
    def of(cls, batch: Batch, number: int, size: int) -> Share:
        """That of one of several processes.

        Copies of a text are dealt out, about as many positions to each process; what they share, the clean
        positions of their document, is computed wherever one of them is.

        Args:
            batch: the whole.
            number: of the process, from 0.
            size: how many there are.
        """
        *_, copy, document = batch
        groups = document.astype(np.int64) << 32 | copy
        _, first, group = np.unique(groups, return_index=True, return_inverse=True)
        is_own = (first * size // len(document))[group] == number
        is_seen = (copy == 0) & np.isin(document, document[is_own])
        kept = np.flatnonzero(is_own | is_seen)
        ids, positions, level, copy, document = (part[kept] for part in batch)
        return cls((ids, positions, level, copy, document), kept, is_own[kept])


@dataclass(frozen=True)
class Counted:
    """The positions of a share that count.

    Attributes:
        rows: int64[n], where in the share.
        wanted: int64[n], labels; or float32[n, width], final states of the base.
        weights: float32[n].
    """

    rows: NDArray[np.int64]
    wanted: NDArray[Any]
    weights: Floats

    @classmethod
    def of(
        cls, share: Share, weights: Floats, labels: Ids | None, base: Floats | None, shape: tuple[int, int]
    ) -> Counted:
        """Those of a share.

        Args:
            share: of the batch.
            weights: float32[positions of the batch].
            labels: int32[positions of the batch], or None.
            base: float32[positions that count, width], or None.
            shape: of the embedding, rows and width.

        Raises:
            TrainingError: they do not fit.
        """
        vocab, width = shape
        if (labels is None) == (base is None):
            raise TrainingError("expected labels or base, one of them")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise TrainingError("batch: a position counts less than 0, or what is no number")
        rows = np.flatnonzero(weights > 0)
        wanted: NDArray[Any]
        if base is not None:
            if base.shape != (len(rows), width):
                raise TrainingError(f"batch: expected states of {len(rows)} positions")
            wanted = base
        else:
            assert labels is not None
            wanted = labels[rows].astype(np.int64)
            if ((wanted < 0) | (wanted >= vocab)).any():
                raise TrainingError(f"batch: expected labels of a vocabulary of {vocab}")
        counts = share.is_own & (weights[share.kept] > 0)
        is_here = np.isin(rows, share.kept[counts])
        return cls(np.flatnonzero(counts), wanted[is_here], weights[rows[is_here]])


def padded(
    batch: Batch, places: NDArray[np.int64], counted: tuple[NDArray[Any], ...]
) -> tuple[Batch, NDArray[np.int64], tuple[NDArray[Any], ...]]:
    """Fill a pass up to one of few lengths, with positions of no document and rows that count nothing.

    Args:
        batch: of n positions.
        places: int64[n], of those in the step.
        counted: int64[rows] of the batch, and arrays of as many rows by which the loss is weighted or zero.

    Returns:
        The same, each longer.
    """
    *parts, document = batch

    def longer(array: NDArray[Any], value: int = 0) -> NDArray[Any]:
        more = [(0, -len(array) % _LENGTHS)] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, more, constant_values=value)

    ids, positions, level, copy = map(longer, parts)
    whole = (ids, positions, level, copy, longer(document, -1))
    return whole, longer(places), tuple(map(longer, counted))


def check_batch(batch: Batch, vocab: int, window: int, **others: NDArray[Any] | None) -> None:
    """Refuse a batch here: on a GPU an index out of range would end the process's use of it.

    Args:
        batch: of some positions.
        vocab: tokens there are.
        window: places there are.
        others: arrays of as many rows, or None.

    Raises:
        TrainingError: it is not as it has to be.
    """
    ids, positions, *_ = batch
    if {len(part) for part in batch} != {len(ids)} or not len(ids):
        raise TrainingError(f"batch: expected the same number of everything, above 0, got {len(ids)} ids")
    for what, part, most in (("token", ids, vocab), ("position", positions, window)):
        if part.min() < 0 or part.max() >= most:
            raise TrainingError(f"batch: {what} {part.max()}, expected at least 0 and below {most}")
    for what, array in others.items():
        if array is not None and len(array) != len(ids):
            raise TrainingError(f"batch: expected {len(ids)} {what}, got {len(array)}")
