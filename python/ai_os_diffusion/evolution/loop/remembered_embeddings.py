"""Vectors of texts that are asked for again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.skill_router import Embed

__all__ = ["RememberedEmbeddings"]

_MOST = 1 << 15
"""Texts that are remembered, 50 MB at 384 dimensions; beyond them it begins anew."""


class RememberedEmbeddings:
    """Embeds each text once.

    A round asks each skill with the others and without it, and each time the questions of all are compared:
    the same texts, by the square of the number of skills.

    Args:
        embed: as for `SkillRouter`.
    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._known: dict[str, NDArray[Any]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        """Unit vectors of texts, float32[n, dim]."""
        if len(self._known) + len(texts) > _MOST:
            self._known.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embed(new), strict=True))
        # Of no texts the shape is the encoder's.
        return np.stack([self._known[text] for text in texts]) if texts else self._embed([])
