"""Texts that a block may become."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Candidates"]

Ids = NDArray[np.int32]


class Candidates:
    """All texts that a block is held to: what is written leaves those that agree with it.

    Args:
        texts: int32[count, length], each a whole block.

    Raises:
        SamplingError: there is none.
    """

    def __init__(self, texts: Ids) -> None:
        if texts.ndim != 2 or not texts.size:
            raise SamplingError(f"candidates: expected int32[count, length] with a text, got {texts.shape}")
        self.texts: Ids = np.unique(texts, axis=0)

    def agreeing(self, ids: Ids, is_open: NDArray[np.bool_]) -> Ids:
        """Those that agree with what stands: int32[count, length]."""
        written = np.flatnonzero(~is_open)
        agrees: NDArray[np.bool_] = (self.texts[:, written] == ids[written]).all(1)
        return self.texts[agrees]

    @staticmethod
    def accepted(
        left: Ids, rows: NDArray[np.int64], ids: Ids, confidence: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Of tokens that are committed together those that agree, the surest first.

        Each alone agrees with a text that is left; two need not agree with the same.

        Args:
            left: what `agreeing` gave.
            rows: int64[n], positions.
            ids: int32[n], their tokens.
            confidence: float32[n], their probabilities.

        Returns:
            Indices into `rows`, in order; at least one where `rows` holds any.
        """
        kept = []
        for index in np.argsort(-confidence, kind="stable").tolist():
            agrees = left[:, rows[index]] == ids[index]
            if agrees.any():
                kept.append(index)
                left = left[agrees]
        return np.array(sorted(kept), np.int64)
