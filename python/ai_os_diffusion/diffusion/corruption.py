"""How noise takes a token's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["AbsorbingCorruption", "Corruption", "UniformCorruption"]


class Corruption(Protocol):
    """What a corrupted position holds."""

    def replacements(self, ids: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        """What would stand in the place of each id, of the shape of `ids`."""
        ...


@dataclass(frozen=True, slots=True)
class AbsorbingCorruption:
    """Every corrupted position holds the mask token: masked diffusion.

    Source: D3PM, arXiv:2107.03006, absorbing state.
    """

    mask_id: int

    def __post_init__(self) -> None:
        if self.mask_id < 0:
            raise SamplingError(f"mask_id is {self.mask_id}, expected the id of a token")

    def replacements(self, ids: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        """As `Corruption.replacements`."""
        del random
        return np.full_like(ids, self.mask_id)


@dataclass(frozen=True, slots=True)
class UniformCorruption:
    """A corrupted position holds any token of the vocabulary.

    Source: D3PM, arXiv:2107.03006, uniform.
    """

    vocab_size: int

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise SamplingError(f"vocab_size is {self.vocab_size}, expected 2 or more")

    def replacements(self, ids: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
        """As `Corruption.replacements`."""
        return random.integers(0, self.vocab_size, ids.shape, dtype=np.int32)
