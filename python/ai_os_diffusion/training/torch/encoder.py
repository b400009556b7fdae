"""An encoder that learns: tables, then blocks with a norm behind each of their halves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ai_os_diffusion import _native
from ai_os_diffusion.inference.decoder_layers import activation
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards.names import A, B
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.torch.layers import LayerNorm, Linear, Trained, projected
from ai_os_diffusion.training.torch.network import Attend
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["TrainedEncoder"]

Tensor = Any


class EncoderBlock(nn.Module):
    """Attention and a feed-forward layer, with a norm behind each."""

    def __init__(
        self,
        weights: DeviceWeights,
        layout: Mapping[str, Any],
        config: ModelMetadata,
        trained: Trained,
        scaling: float,
        is_rounded: bool,
        is_beside: bool,
    ) -> None:
        super().__init__()
        self.head_dim, self.dtype = config.head_dim, weights.dtype
        self.activation = activation(config.hidden_act)
        if len(layout["qkv"]) != 3 or len(layout["wide"]) != 1 or layout["reach"] is not None:
            raise ModelLoadError(
                "training knows encoders whose queries, keys and values are layers of their own, without "
                "gates and windows"
            )

        def linear(layer: Mapping[str, Any]) -> Linear:
            return Linear(weights, layer, trained, scaling, is_beside=is_beside, is_rounded=is_rounded)

        self.qkv, self.wide = (nn.ModuleList(map(linear, layout[part])) for part in ("qkv", "wide"))
        self.output, self.down = linear(layout["output"]), linear(layout["down"])
        self.behind_attention, self.behind_feed_forward = (
            LayerNorm(weights, layout[norm], config.norm_eps, trained)
            for norm in ("attention_norm", "feed_forward_norm")
        )

    def forward(self, x: Tensor, attend: Attend, mask: Any) -> Tensor:
        """float32[b, n, width] to the same."""
        parts = projected(x.to(self.dtype), self.qkv)
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in parts)
        seen = attend(q, k, v, mask)
        x = self.behind_attention(x + self.output(seen.transpose(1, 2).flatten(2)).float())
        wide = self.activation(self.wide[0](x.to(self.dtype)))
        return self.behind_feed_forward(x + self.down(wide).float())


class TrainedEncoder(nn.Module):
    """Hidden states of ids.

    Args:
        weights: of the base; their type is that of products.
        config: of the base.
        values: what is trained, as `Trained` takes it: factors beside linear layers, norms, and the table of
            token types; all else is frozen.
        scaling: of the products of factors.
        is_rounded: as `Linear` has it.
        is_beside: likewise.

    Raises:
        ModelLoadError: the model is no encoder, or of a family that training does not know.
        TrainingError: it has nothing of a name in `values`, or of another shape.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        config: ModelMetadata,
        values: Mapping[str, Tensor],
        *,
        scaling: float,
        is_rounded: bool = False,
        is_beside: bool = True,
    ) -> None:
        super().__init__()
        layout, trained = json.loads(_native.layout_json(config.to_json())), Trained(values)
        family = layout["family"]
        is_known = family["norm_place"] == "after" and not family["is_rotary"] and not family["is_gated"]
        if not is_known or layout["positions"] is None or layout["embedding_norm"] is None:
            raise ModelLoadError(
                f"architecture {config.architecture!r}: training knows encoders with norms behind their "
                "layers: bert, roberta"
            )

        def table(part: str) -> Tensor:
            return weights.exact(f"{layout[part]['name']}.weight")

        self.scaling = scaling
        self.offset, types = config.position_offset, layout["types"]
        self.register_buffer("embedding", table("words"), persistent=False)
        self.register_buffer("places", table("positions"), persistent=False)
        own = None
        if types is not None:
            own = trained.take(f"{types['name']}.weight", [types["rows"], types["cols"]])
        if own is not None:
            self.types = own
        else:
            self.register_buffer("types", None if types is None else table("types"), persistent=False)
        self.norm = LayerNorm(weights, layout["embedding_norm"], config.norm_eps, trained)
        self.blocks = nn.ModuleList(
            EncoderBlock(weights, block, config, trained, scaling, is_rounded, is_beside)
            for block in layout["blocks"]
        )
        trained.check_all_taken()
        self._trained = trained.parameters

    @classmethod
    def begun(
        cls, weights: DeviceWeights, config: ModelMetadata, *, rank: int, alpha: float = 16.0
    ) -> TrainedEncoder:
        """One that changes nothing yet, by torch's random numbers.

        Args:
            weights: as for the class.
            config: as for the class.
            rank: of the factors of all linear layers, beside which norms and token types are trained.
            alpha: factors are scaled by alpha / sqrt(rank), and added to the weights before these are used.
        """
        layout = json.loads(_native.layout_json(config.to_json()))
        values: dict[str, Tensor] = {}
        for layer in (one for block in layout["blocks"] for one in _linears(block)):
            # The factors of rank-stabilised LoRA begin at no change: B is zero (arXiv:2106.09685).
            a = torch.randn(rank, layer["inputs"]) / math.sqrt(layer["inputs"])
            values[layer["name"] + A] = a.to(weights.device)
            values[layer["name"] + B] = torch.zeros(layer["outputs"], rank, device=weights.device)
        norms = [
            layout["embedding_norm"],
            *(block[norm] for block in layout["blocks"] for norm in ("attention_norm", "feed_forward_norm")),
        ]
        names = [
            f"{norm['name']}.{part}" for norm in norms if norm is not None for part in ("weight", "bias")
        ]
        if layout["types"] is not None:
            names.append(f"{layout['types']['name']}.weight")
        values.update((name, weights.exact(name).clone()) for name in names if name in weights)
        return cls(weights, config, values, scaling=alpha / math.sqrt(rank), is_beside=False)

    def forward(
        self, ids: Tensor, positions: Tensor, attend: Attend, mask: Any, types: Tensor = None
    ) -> Tensor:
        """int64[b, n] to states, float32[b, n, width]; `types` are 0 where none are given."""
        places = F.embedding(positions + self.offset, self.places)
        if self.types is not None:
            places = places + (self.types[0] if types is None else F.embedding(types, self.types))
        x = self.norm(F.embedding(ids, self.embedding) + places)
        for block in self.blocks:
            x = block(x, attend, mask)
        return x

    def trained(self) -> dict[str, Tensor]:
        """What is trained, by the names of a card's file."""
        return dict(self._trained)


def _linears(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (*block["qkv"], *block["wide"], block["output"], block["down"])
