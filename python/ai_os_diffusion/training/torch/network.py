"""A decoder that learns: its base frozen, or all of it trained; the residual stream in float32."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ai_os_diffusion import _native
from ai_os_diffusion.inference.decoder_layers import activation
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.inference.torch.rotary_frequencies import rotary_frequencies
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["Attend", "TrainedDecoder"]

Tensor = Any
Attend = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""(q[b, heads, n, d], k and v[b, key heads, n, d], mask) -> [b, heads, n, d]."""

_ROW_NOISE = 0.02
"""By which new rows of the embedding differ from the mean of all, about as rows of trained ones do."""


class Linear(nn.Module):
    """`W x + b + scaling · B (A x)`; W is frozen, or there are no factors.

    The factors of rank-stabilised LoRA begin at no change: B is zero (arXiv:2106.09685).
    """

    def __init__(self, weights: DeviceWeights, name: str, rank: int, scaling: float) -> None:
        super().__init__()
        self.name, self.scaling = name, scaling
        weight = weights.exact(f"{name}.weight")
        bias = weights.exact(f"{name}.bias") if f"{name}.bias" in weights else None
        if rank:
            self.register_buffer("weight", weight.to(weights.dtype), persistent=False)
            self.register_buffer("bias", None if bias is None else bias.to(weights.dtype), persistent=False)
            # Drawn where it is the same on every device.
            a = torch.randn(rank, weight.shape[1]) / math.sqrt(weight.shape[1])
            self.a = nn.Parameter(a.to(weight.device))
            self.b = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        else:
            self.weight = nn.Parameter(weight)
            self.bias = None if bias is None else nn.Parameter(bias)
            self.a = self.b = None

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs] in the type of `x`."""
        return F.linear(x, self.merged(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def merged(self, dtype: Any) -> Tensor:
        """W + scaling · B A, [outputs, inputs].

        Over the positions of a batch one product of this is far less work for memory than three thin ones.
        """
        weight = self.weight.to(dtype)
        if self.a is None:
            return weight
        return torch.addmm(weight, self.b.to(dtype), self.a.to(dtype), alpha=self.scaling)

    def trained(self) -> Iterator[tuple[str, Tensor]]:
        """What is trained, by the names of a card or of a model."""
        if self.a is not None:
            yield f"{self.name}.lora_A.weight", self.a
            yield f"{self.name}.lora_B.weight", self.b
            return
        yield f"{self.name}.weight", self.weight
        if self.bias is not None:
            yield f"{self.name}.bias", self.bias


def _projected(x: Tensor, linears: Iterable[Linear]) -> tuple[Tensor, ...]:
    """[..., inputs] to [..., outputs] of each, in one product."""
    layers = list(linears)
    out = F.linear(x, torch.cat([layer.merged(x.dtype) for layer in layers]))
    parts = out.split([len(layer.weight) for layer in layers], -1)
    return tuple(
        part if layer.bias is None else part + layer.bias.to(x.dtype)
        for part, layer in zip(parts, layers, strict=True)
    )


class RmsNorm(nn.Module):
    """Root mean square norm of float32, to the type of the products."""

    def __init__(self, weights: DeviceWeights, layout: Mapping[str, Any], eps: float) -> None:
        super().__init__()
        if layout["needs_bias"] is not None:
            raise ModelLoadError(f"norm {layout['name']!r} is a layer norm; training knows those of decoders")
        self.name, self.eps, self.dtype = layout["name"], eps, weights.dtype
        self.weight = nn.Parameter(weights.exact(f"{self.name}.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        return (F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps) * self.weight).to(self.dtype)

    def trained(self) -> Iterator[tuple[str, Tensor]]:
        """As of `Linear`."""
        yield f"{self.name}.weight", self.weight


class Block(nn.Module):
    """Attention and a feed-forward layer, with a norm before each, as the layout of a family says."""

    def __init__(
        self,
        weights: DeviceWeights,
        layout: Mapping[str, Any],
        family: Mapping[str, Any],
        config: ModelMetadata,
        factors: tuple[int, float],
    ) -> None:
        super().__init__()
        self.head_dim, self.is_gated = config.head_dim, family["is_gated"]
        self.activation = activation(config.hidden_act)

        def linears(part: list[Mapping[str, Any]]) -> nn.ModuleList:
            return nn.ModuleList(Linear(weights, layer["name"], *factors) for layer in part)

        def norms(part: list[Mapping[str, Any]]) -> nn.ModuleList:
            return nn.ModuleList(RmsNorm(weights, norm, config.norm_eps) for norm in part)

        self.before_attention, self.before_feed_forward = norms(
            [layout["attention_norm"], layout["feed_forward_norm"]]
        )
        self.qkv, self.wide = linears(layout["qkv"]), linears(layout["wide"])
        self.output, self.down = linears([layout["output"], layout["down"]])
        self.head_norms = norms(layout["head_norms"] or [])
        if len(self.qkv) != 3 or len(self.wide) != 1 + self.is_gated:
            raise ModelLoadError(
                "training knows decoders whose queries, keys and values are layers of their own"
            )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, mask: Any) -> Tensor:
        """float32[b, n, width] to the same; `cos` and `sin` are [b, 1, n, head_dim / 2]."""
        h = self.before_attention(x)
        q, k, v = (heads.unflatten(-1, (-1, self.head_dim)) for heads in _projected(h, self.qkv))
        if self.head_norms:
            q, k = self.head_norms[0](q), self.head_norms[1](k)
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
        seen = attend(_rotated(q, cos, sin), _rotated(k, cos, sin), v, mask)
        x = x + self.output(seen.transpose(1, 2).flatten(2)).float()
        wide = _projected(self.before_feed_forward(x), self.wide)
        wide = self.activation(wide[0]) * wide[1] if self.is_gated else self.activation(wide[0])
        return x + self.down(wide).float()


class TrainedDecoder(nn.Module):
    """Hidden states of ids, and the logits of those that are wanted.

    Args:
        weights: of the base; their type is that of products.
        config: of the base.
        card_rows: tokens whose rows of the embedding are the card's: MASK and NULL, or none.
        rank: of the factors of all linear layers; 0 trains all weights in their place.
        alpha: they are scaled by alpha / sqrt(rank).
        recompute: compute blocks again for the backward pass.

    Raises:
        ModelLoadError: the model is no decoder, or of a family that training does not know.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        config: ModelMetadata,
        card_rows: tuple[int, ...],
        *,
        rank: int,
        alpha: float = 16.0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        layout = _layout(config)
        family, words = layout["family"], layout["words"]["name"]
        self.dtype, self.recompute, self.rank = weights.dtype, recompute, rank
        self.scaling = alpha / math.sqrt(rank) if rank else 1.0
        factors = rank, self.scaling
        embedding = weights.exact(f"{words}.weight")
        self.rows_name, self.words_name = f"{words}.rows", f"{words}.weight"
        self.register_buffer("card_rows", torch.tensor(card_rows, device=embedding.device), persistent=False)
        noise = torch.randn(len(card_rows), embedding.shape[1]).to(embedding)
        self.rows: Tensor = nn.Parameter(embedding.mean(0) + _ROW_NOISE * noise) if card_rows else None
        self.blocks = nn.ModuleList(
            Block(weights, block, family, config, factors) for block in layout["blocks"]
        )
        self.last = RmsNorm(weights, layout["final_norm"], config.norm_eps)
        name, tied = family["head"], config.tied_embeddings
        is_tied = f"{name}.weight" not in weights if tied is None else tied
        self.head = None if is_tied else Linear(weights, name, *factors)
        if rank:
            self.register_buffer("embedding", embedding, persistent=False)
            # Products with it are of the type of all others, and rounded once.
            self.register_buffer("scores", embedding.to(weights.dtype) if is_tied else None, persistent=False)
        else:
            self.embedding, self.scores = nn.Parameter(embedding), None
        frequencies, self.rotary_factor = rotary_frequencies(config)
        frequencies = torch.from_numpy(frequencies).float().to(embedding.device)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend, mask: Any) -> Tensor:
        """int64[b, n] to states [b, n, width] of the products' type, after the last norm."""
        x = F.embedding(ids, self.embedding)
        for row, i in enumerate(self.card_rows):
            x = torch.where((ids == i)[..., None], self.rows[row], x)
        angles = positions[:, None, :, None].float() * self.frequencies
        cos, sin = ((of(angles) * self.rotary_factor).to(self.dtype) for of in (torch.cos, torch.sin))
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, attend, mask, use_reentrant=False)
            else:
                x = block(x, cos, sin, attend, mask)
        return self.last(x)

    def logits(self, states: Tensor) -> Tensor:
        """[..., width] to float32[..., vocabulary]."""
        if self.head is not None:
            return self.head(states).float()
        scores = self.embedding.to(states.dtype) if self.scores is None else self.scores
        found = F.linear(states, scores).float()
        if self.rows is None:
            return found
        return found.index_copy(-1, self.card_rows, F.linear(states, self.rows.to(states.dtype)).float())

    def trained(self) -> dict[str, Tensor]:
        """What is trained, by the names of a card's file, or of a model's with all weights."""
        found = {} if self.rows is None else {self.rows_name: self.rows}
        for module in self.modules():
            if isinstance(module, Linear | RmsNorm):
                found.update(module.trained())
        if not self.rank:
            found[self.words_name] = self.embedding
        return found


def _layout(config: ModelMetadata) -> Any:
    """How the base is built.

    Raises:
        ModelLoadError: it is built so that training does not know it.
    """
    layout = json.loads(_native.layout_json(config.to_json()))
    family = layout["family"]
    if not family["is_decoder"] or not config.has_head:
        raise ModelLoadError(
            f"architecture {config.architecture!r} scores no tokens; expected a decoder with its head"
        )
    if (
        family["norm_place"] != "before"
        or not family["is_rotary"]
        or layout["final_norm"] is None
        or any(block["reach"] is not None or block["attention_norm"] is None for block in layout["blocks"])
    ):
        raise ModelLoadError(
            f"architecture {config.architecture!r}: training knows decoders with norms before their layers, "
            "rotary positions and attention to all of a text"
        )
    return layout


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
