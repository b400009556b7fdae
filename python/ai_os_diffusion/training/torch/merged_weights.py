"""A base with a card merged into it, tensor by tensor as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.models.cards.names import ROWS, A, B
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["MergedWeights"]

Array = NDArray[np.float32]


class MergedWeights(Mapping[str, Any]):
    """Weights by name, float32; those of a card added, its norms and rows in the place of the base's.

    Args:
        base: a weight file, or arrays by name.
        card: of factors, norms and rows of the embedding.
        scaling: of the products of its factors.
        row_ids: tokens whose rows it brings.

    Raises:
        ModelLoadError: the card changes something that the base lacks.
    """

    def __init__(
        self,
        base: _native.WeightFile | Mapping[str, Array],
        card: _native.WeightFile,
        scaling: float,
        row_ids: Sequence[int],
    ) -> None:
        self._base, self._card, self._scaling, self._row_ids = base, card, scaling, list(row_ids)
        self._names = list(base.names if isinstance(base, _native.WeightFile) else base)
        self._changes = set(card.names)
        for name in self._changes:
            owner = name
            for part in (A, B, ROWS):
                if name.endswith(part):
                    owner = name.removesuffix(part) + ".weight"
            if owner not in self._names:
                raise ModelLoadError(f"the card beneath has {name!r}, and the base no {owner!r}")

    def __getitem__(self, name: str) -> Array:
        if name in self._changes:
            return self._card.dequantize(name)
        base = self._base
        found = base.dequantize(name) if isinstance(base, _native.WeightFile) else base[name]
        owner = name.removesuffix(".weight")
        if owner + A in self._changes:
            change = self._card.dequantize(owner + B) @ self._card.dequantize(owner + A)
            found = found + np.float32(self._scaling) * change
        if owner + ROWS in self._changes:
            found = np.array(found)
            found[self._row_ids] = self._card.dequantize(owner + ROWS)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
