"""How far the writing of a plan is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import Trajectory, Written
from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan

__all__ = ["Progress"]


class Progress:
    """What has been written of a plan so far.

    Attributes:
        plan: what is to be written. seed: of what is drawn.
        written: what is.
        measured: passes before the first that writes.
    """

    def __init__(self, plan: CanvasPlan, seed: int) -> None:
        self.plan, self.seed, self.written = plan, seed, Written()
        self.measured = 0

    def joined(self, name: str) -> NDArray[Any]:
        """An attribute of all canvases, one behind the other; at first those of the first block."""
        parts = [getattr(canvas, name) for canvas in self.written.canvases]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def trajectory(self, rows: NDArray[np.int64], gaps: Sequence[tuple[int, int]]) -> Trajectory:
        """How what stands in some positions was written.

        Args:
            rows: the positions.
            gaps: first and last + 1 of those that it might have taken.
        """
        first = self.joined("first_entropy")
        return Trajectory(
            self.joined("confidence")[rows],
            self.joined("entropy")[rows],
            np.concatenate([first[begin:end] for begin, end in gaps]),
            self.written.passes,
            int(self.joined("revisions")[rows].sum()),
        )

    @property
    def alternatives(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Most probable ids of all positions, and their probabilities."""
        ids, shares = zip(*self.written.alternatives, strict=True)
        return np.concatenate(ids), np.concatenate(shares)
