"""What is being written: tokens that stand, and positions that are still open."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion.diffusion.candidates import Candidates
from ai_os_diffusion.diffusion.denoiser import Predictions
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Canvas"]

Rows = NDArray[np.int64]


class Canvas:
    """A block of positions, some given, the others open, and how each open one was filled.

    A given position never changes, and the mask token never stands in a filled one.

    Attributes:
        ids: int32[n]; open positions hold the mask token.
        is_open: bool[n].
        is_given: bool[n], true where the text is not to be written.
        confidence: float32[n], probability of a token when it was committed; 1 where it was given.
        entropy: float32[n], nats of the distribution it was taken from; 0 where it was given.
        first_entropy: float32[n], nats of what the first pass predicted; 0 where it predicted nothing.
        committed_at: int32[n], the pass, from 1; 0 where it was given or is open.
        revisions: int32[n], how often a token was taken back or replaced.
        passes: forward passes so far.
        changed: positions that the last pass changed.
    """

    def __init__(
        self,
        ids: ArrayLike,
        mask_id: int,
        candidates: Candidates | None = None,
        *,
        ends: Collection[int] = (),
    ) -> None:
        """Begin with a text in which the mask token stands where something is to be written.

        Args:
            ids: int32[n].
            mask_id: the mask token.
            candidates: what the text may become; None is anything.
            ends: tokens that end the text: what stands behind the first that was written is no part of it.

        Raises:
            SamplingError: nothing is to be written, or no candidate agrees with what stands.
        """
        self.ids = np.array(ids, np.int32)
        self.mask_id = mask_id
        self.is_open = self.ids == mask_id
        if self.ids.ndim != 1 or not self.is_open.any():
            raise SamplingError("expected a row of tokens with at least one open position")
        self.is_given = ~self.is_open
        self._candidates, self._ends = candidates, list(ends)
        if candidates is not None and not len(candidates.agreeing(self.ids, self.is_open)):
            raise SamplingError("candidates: none of them agrees with the given text")
        count = len(self.ids)
        self.confidence = np.where(self.is_given, np.float32(1), np.float32(0))
        self.entropy = np.zeros(count, np.float32)
        self.first_entropy = np.zeros(count, np.float32)
        self.committed_at = np.zeros(count, np.int32)
        self.revisions = np.zeros(count, np.int32)
        self.passes = 0
        self.changed: Rows = np.zeros(0, np.int64)

    @property
    def length(self) -> int:
        """Positions up to the first end token that was written, and with it; all where there is none."""
        ends = np.flatnonzero(np.isin(self.ids, self._ends) & ~self.is_open & ~self.is_given)
        return int(ends[0]) + 1 if len(ends) else len(self.ids)

    @property
    def open_rows(self) -> Rows:
        """Positions that are open and part of the text, in order."""
        return np.flatnonzero(self.is_open[: self.length])

    @property
    def written_rows(self) -> Rows:
        """Positions that were filled."""
        return np.flatnonzero(~self.is_open & ~self.is_given)

    def allowed(self, rows: Rows) -> dict[int, NDArray[np.int32]]:
        """By index into `rows`, the tokens that candidates leave for a position; {} where any may stand."""
        if self._candidates is None:
            return {}
        left = self._candidates.agreeing(self.ids, self.is_open)
        return {at: np.unique(left[:, row]) for at, row in enumerate(rows.tolist())}

    def begin_pass(self, rows: Rows, found: Predictions) -> None:
        """Count a pass, which has changed nothing yet.

        Args:
            rows: int64[m], what it predicted.
            found: the predictions.
        """
        self.passes += 1
        if self.passes == 1:
            self.first_entropy[rows] = found.entropy
        self.changed = np.zeros(0, np.int64)

    def commit(self, rows: Rows, found: Predictions, chosen: NDArray[np.int64]) -> None:
        """Write tokens; of those that no candidate holds together the surer ones.

        Args:
            rows: the positions that `found` is about.
            found: predictions.
            chosen: indices into `rows`.
        """
        if self._candidates is not None:
            left = self._candidates.agreeing(self.ids, self.is_open)
            chosen = chosen[
                self._candidates.accepted(left, rows[chosen], found.ids[chosen], found.confidence[chosen])
            ]
        at, ids = rows[chosen], found.ids[chosen]
        if self.is_given[at].any() or (ids == self.mask_id).any():
            raise SamplingError("a sampler wrote over given text, or wrote the mask token")
        self.revisions[at] += ~self.is_open[at]
        self.ids[at], self.is_open[at] = ids, False
        self.confidence[at], self.entropy[at] = found.confidence[chosen], found.entropy[chosen]
        self.committed_at[at] = self.passes
        self.changed = np.union1d(self.changed, at)

    def remask(self, rows: Rows) -> None:
        """Take tokens back."""
        if self.is_given[rows].any():
            raise SamplingError("a sampler took back given text")
        self.revisions[rows] += 1
        self.ids[rows], self.is_open[rows] = self.mask_id, True
        self.confidence[rows], self.entropy[rows], self.committed_at[rows] = 0, 0, 0
        self.changed = np.union1d(self.changed, rows)
