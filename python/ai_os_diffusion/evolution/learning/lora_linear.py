"""A linear layer with low-rank factors, in NumPy: what a card does to a layer, to be read and tried."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.objectives.beginnings import new_factors
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.magnitudes import row_scales
from ai_os_diffusion.models.cards.names import MAGNITUDE, A, B
from ai_os_diffusion.utils.errors import CardError

__all__ = ["LoRALinear"]

Numbers = NDArray[np.float32]


class LoRALinear:
    """`W x + b + scaling · B (A x)` (arXiv:2106.09685).

    With a magnitude m the rows of `W + scaling · B A` are as long as it says (DoRA, arXiv:2402.09353).

    Args:
        weight: float32[outputs, inputs], of the layer as it is.
        a: float32[rank, inputs].
        b: float32[outputs, rank].
        scaling: of what the factors add.
        bias: float32[outputs], of the layer as it is.
        magnitude: float32[outputs].

    Raises:
        CardError: the shapes do not fit each other, or a row that has a magnitude has no length.

    Example:
        >>> layer = LoRALinear.from_base(np.eye(4), rank=2)
        >>> bool((layer([1, 2, 3, 4]) == [1, 2, 3, 4]).all())  # new factors change nothing
        True
    """

    def __init__(
        self,
        weight: ArrayLike,
        a: ArrayLike,
        b: ArrayLike,
        scaling: float,
        bias: ArrayLike | None = None,
        magnitude: ArrayLike | None = None,
    ) -> None:
        self.weight, self.a, self.b = (np.asarray(one, np.float32) for one in (weight, a, b))
        self.scaling = float(scaling)
        self.bias = None if bias is None else np.asarray(bias, np.float32)
        shapes = [one.shape for one in (self.weight, self.a, self.b)]
        if not (
            [len(shape) for shape in shapes] == [2, 2, 2]
            and self.a.shape[1] == self.weight.shape[1]
            and self.b.shape == (self.weight.shape[0], self.a.shape[0])
            and (self.bias is None or self.bias.shape == self.weight.shape[:1])
        ):
            told = "none" if self.bias is None else f"{self.bias.shape}"
            raise CardError(
                f"weight, a and b are {shapes}, the bias {told}; expected [outputs, inputs], [rank, inputs], "
                "[outputs, rank] and [outputs]"
            )
        self.magnitude = None if magnitude is None else np.asarray(magnitude, np.float32)
        self._row_scales = np.ones(len(self.weight), np.float32)
        if self.magnitude is not None:
            self._row_scales = row_scales(
                self.weight, self.a, self.b, self.scaling, self.magnitude, "of this weight"
            )

    @classmethod
    def from_base(
        cls,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        config: LoRAConfig | None = None,
        rank: int | None = None,
    ) -> LoRALinear:
        """With new factors, which change nothing yet.

        Args:
            weight: float32[outputs, inputs].
            bias: float32[outputs].
            config: rank, alpha and seed of the factors, and whether there is a magnitude.
            rank: in place of that of `config`.
        """
        config = config or LoRAConfig()
        config = config if rank is None else LoRAConfig(**{**config.to_dict(), "rank": rank})
        weight = np.asarray(weight, np.float32)
        outputs, inputs = weight.shape
        new = new_factors([{"name": "", "inputs": inputs, "outputs": outputs}], config, lambda _name: weight)
        return cls(weight, new[A], new[B], config.scaling, bias, new.get(MAGNITUDE))

    @classmethod
    def of(cls, card: Card, layer: str, weight: ArrayLike, bias: ArrayLike | None = None) -> LoRALinear:
        """With the factors that a card has for a layer.

        Raises:
            CardError: it has none for that layer, or they do not fit its weight.
        """
        if layer not in card.layers:
            raise CardError(
                f"card {card.name!r} has no factors for {layer!r}; it has {', '.join(card.layers)}"
            )
        magnitude = card[layer + MAGNITUDE] if layer + MAGNITUDE in card.shapes else None
        return cls(weight, card[layer + A], card[layer + B], card.description.scaling, bias, magnitude)

    def __call__(self, x: ArrayLike) -> Numbers:
        """float32[..., inputs] to float32[..., outputs]."""
        values: Numbers = np.asarray(x, np.float32)
        out: Numbers = values @ self.weight.T
        out += np.float32(self.scaling) * (values @ self.a.T @ self.b.T)
        out *= self._row_scales
        return out if self.bias is None else out + self.bias

    def fuse(self) -> Numbers:
        """W + scaling · B A, its rows scaled, float32[outputs, inputs]: a weight that does it by itself."""
        fused: Numbers = self.weight + np.float32(self.scaling) * (self.b @ self.a)
        fused *= self._row_scales[:, None]
        return fused
