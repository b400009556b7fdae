"""The ids of a batch of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import TokenizerError

__all__ = ["Encoded", "Padding", "Side", "pad_ragged"]

Padding = Literal["longest", "max_length", False]
"""Pad to the longest text of the batch, to `max_length`, or not at all."""

Side = Literal["left", "right"]

Ids = NDArray[np.int64]


class Encoded(Mapping[str, Ids]):
    """Ids of n texts, as rows of one length and as they are.

    A mapping of `input_ids` and `attention_mask`, so that `core(**encoded)` works.

    Attributes:
        ids: one int32[length] array per text, without padding.
        offsets: one int64[length, 2] array per text with the start and end of each token in characters
            of the text, (0, 0) for special tokens; None unless asked for.
        flat_ids: int32[total], the ids of all texts one after the other.
        bounds: int64[n + 1]; text i has `flat_ids[bounds[i]:bounds[i + 1]]`.
    """

    def __init__(
        self,
        flat_ids: NDArray[np.int32],
        bounds: NDArray[np.int64],
        rows: tuple[Ids, Ids] | None,
        spans: NDArray[np.int64] | None = None,
    ) -> None:
        self.flat_ids = flat_ids
        self.bounds = bounds
        self.ids = np.split(flat_ids, bounds[1:-1]) if len(bounds) > 1 else []
        self.offsets = np.split(spans, bounds[1:-1]) if spans is not None and len(bounds) > 1 else None
        self._rows = rows

    @property
    def input_ids(self) -> Ids:
        """int64[n, length]; padded positions hold the pad id."""
        return self._padded()[0]

    @property
    def attention_mask(self) -> Ids:
        """int64[n, length]; 1 for tokens, 0 for padding."""
        return self._padded()[1]

    def _padded(self) -> tuple[Ids, Ids]:
        if self._rows is None:
            lengths = sorted({len(row) for row in self.ids})
            raise TokenizerError(
                f"texts have {lengths[0]} to {lengths[-1]} tokens and were encoded with padding=False; "
                "use `.ids`, or encode with padding='longest'"
            )
        return self._rows

    def __getitem__(self, key: str) -> Ids:
        """`encoded["input_ids"]` and `encoded["attention_mask"]`."""
        if key not in ("input_ids", "attention_mask"):
            raise KeyError(key)
        return self._padded()[key == "attention_mask"]

    def __iter__(self) -> Iterator[str]:
        return iter(("input_ids", "attention_mask"))

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        return f"Encoded({len(self.ids)} texts, {len(self.flat_ids)} tokens)"


def pad_ragged(
    flat_ids: NDArray[np.int32], bounds: NDArray[np.int64], width: int, pad_id: int, side: Side
) -> tuple[Ids, Ids]:
    """Lay ragged ids out as rows of `width`.

    Returns:
        (input_ids, attention_mask), both int64[n, width].
    """
    lengths = np.diff(bounds)[:, None]
    columns = np.arange(width)
    taken = columns < lengths if side == "right" else columns >= width - lengths
    input_ids = np.full(taken.shape, pad_id, dtype=np.int64)
    input_ids[taken] = flat_ids
    return input_ids, taken.astype(np.int64)
