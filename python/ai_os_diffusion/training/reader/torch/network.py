"""A reader that learns: an encoder and its head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.description import READER
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.torch.attention import Attention
from ai_os_diffusion.training.torch.encoder import TrainedEncoder
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["HEAD", "TrainedReader"]

Tensor = Any

HEAD = "qa_outputs"
"""Start and end of each position, and at the first one the relevance; named as in Hugging Face BERT."""

_OUTPUTS = 3
_HEAD_NOISE = 0.02
"""Deviation that BERT's own layers begin with."""


class TrainedReader(nn.Module):
    """Scores of the tokens of windows, packed into rows.

    Args:
        weights: of the base; their type is that of products.
        config: of the base.
        rank: of the factors.
        alpha: they are scaled by alpha / sqrt(rank).
    """

    def __init__(self, weights: DeviceWeights, config: ModelMetadata, *, rank: int, alpha: float) -> None:
        super().__init__()
        self._rank = rank
        self.encoder = TrainedEncoder.begun(weights, config, rank=rank, alpha=alpha)
        noise = _HEAD_NOISE * torch.randn(_OUTPUTS, config.hidden_size)
        self.weight = nn.Parameter(noise.to(weights.device))
        self.bias = nn.Parameter(torch.zeros(_OUTPUTS, device=weights.device))

    def begin_with(self, card: Card, weights_sha256: str) -> None:
        """Take up the weights of a card.

        Args:
            card: a reader of the same base, rank and scaling.
            weights_sha256: digest of the base's weights.

        Raises:
            TrainingError: it is another's.
        """
        about, own = card.description, self.trained()
        found = {
            "kind": about.kind,
            "base": about.base.weights_sha256,
            "rank": about.rank,
            "scaling": round(about.scaling, 6),
        }
        expected = {
            "kind": READER,
            "base": weights_sha256,
            "rank": self._rank,
            "scaling": round(self.scaling, 6),
        }
        for name, value in expected.items():
            if found[name] != value:
                raise TrainingError(
                    f"card.init: {card.path}: {name} {found[name]}, expected {value}, as the recipe and its "
                    "base have it"
                )
        for name in sorted({*card, *own}):
            shape = tuple(own[name].shape) if name in own else None
            if card.shapes.get(name) != shape:
                raise TrainingError(
                    f"card.init: {card.path}: {name} {card.shapes.get(name)}, expected {shape}; name a card "
                    "that `aios train-reader` made"
                )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(torch.from_numpy(card[name]))

    @property
    def blocks(self) -> nn.ModuleList:
        """Of the encoder."""
        return self.encoder.blocks

    @property
    def scaling(self) -> float:
        """Of the products of factors."""
        return self.encoder.scaling

    def forward(self, batch: Mapping[str, Tensor], attention: Attention) -> Tensor:
        """A batch to float32[rows · length, 3]."""
        still = torch.zeros_like(batch["document"])
        mask = attention.mask({"document": batch["document"], "level": still, "noisy": still})
        ids, positions, types = (batch[name].long() for name in ("ids", "positions", "types"))
        states = self.encoder(ids, positions, attention, mask, types)
        return F.linear(states, self.weight, self.bias).flatten(0, 1)

    def trained(self) -> dict[str, Tensor]:
        """What is trained, by the names of a card's file."""
        return {**self.encoder.trained(), f"{HEAD}.weight": self.weight, f"{HEAD}.bias": self.bias}
