"""A decoder that learns: its base frozen, or all of it trained; the residual stream in float32."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ai_os_diffusion import _native
from ai_os_diffusion.inference.decoder_layers import activation
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.inference.torch.rotary_frequencies import rotary_frequencies
from ai_os_diffusion.models.cards.names import ROWS, A, B
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.torch.layers import (
    Linear,
    RmsNorm,
    SideBlock,
    Trained,
    projected,
    rounded,
)
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["Attend", "TrainedDecoder"]

Tensor = Any
Attend = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""(q[b, heads, n, d], k and v[b, key heads, n, d], mask) -> [b, heads, n, d]."""

_ROW_NOISE = 0.02
"""By which new rows of the embedding differ from the mean of all, about as rows of trained ones do."""


class Block(nn.Module):
    """Attention and a feed-forward layer, with a norm before each, as the layout of a family says."""

    def __init__(
        self,
        weights: DeviceWeights,
        layout: Mapping[str, Any],
        family: Mapping[str, Any],
        config: ModelMetadata,
        trained: Trained,
        linear: Callable[[Mapping[str, Any]], Linear],
    ) -> None:
        super().__init__()
        self.head_dim, self.is_gated = config.head_dim, family["is_gated"]
        self.activation = activation(config.hidden_act)

        def linears(part: list[Mapping[str, Any]]) -> nn.ModuleList:
            return nn.ModuleList(map(linear, part))

        def norms(part: list[Mapping[str, Any]]) -> nn.ModuleList:
            return nn.ModuleList(RmsNorm(weights, norm, config.norm_eps, trained) for norm in part)

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
        q, k, v = (heads.unflatten(-1, (-1, self.head_dim)) for heads in projected(h, self.qkv))
        if self.head_norms:
            q, k = self.head_norms[0](q), self.head_norms[1](k)
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
        seen = attend(_rotated(q, cos, sin), _rotated(k, cos, sin), v, mask)
        x = x + self.output(seen.transpose(1, 2).flatten(2)).float()
        wide = projected(self.before_feed_forward(x), self.wide)
        wide = self.activation(wide[0]) * wide[1] if self.is_gated else self.activation(wide[0])
        return x + self.down(wide).float()


class TrainedDecoder(nn.Module):
    """Hidden states of ids, and the logits of those that are wanted.

    Args:
        weights: of the base; their type is that of products.
        config: of the base.
        values: what is trained, as `Trained` takes it.
        card_rows: tokens whose rows of the embedding are trained: MASK and NULL, or none.
        scaling: of the products of factors.
        is_beside: factors stand beside their layers, and logits are products of float32; else factors are
            added to the weights first, and logits are of the type of all others.
        recompute: compute blocks again for the backward pass.
        is_rounded: as `Linear` has it, of the head too.

    Attributes:
        rows_name: of the trained rows, as a card names them.
        scores_name: of the weights that make logits.

    Raises:
        ModelLoadError: the model is no decoder, or of a family that training does not know.
        TrainingError: it has nothing of a name in `values`, or of another shape.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        config: ModelMetadata,
        values: Mapping[str, Tensor],
        card_rows: tuple[int, ...] = (),
        *,
        scaling: float,
        is_beside: bool = False,
        recompute: bool = False,
        is_rounded: bool = False,
    ) -> None:
        super().__init__()
        layout, trained = _layout(config), Trained(values)
        family, words = layout["family"], layout["words"]
        self.dtype, self.recompute, self.scaling = weights.dtype, recompute, scaling
        self.is_rounded = is_rounded
        self.is_beside = is_beside
        self.rows_name = words["name"] + ROWS

        def linear(layer: Mapping[str, Any]) -> Linear:
            return Linear(weights, layer, trained, scaling, is_beside=is_beside, is_rounded=is_rounded)

        name = f"{words['name']}.weight"
        self.register_buffer(
            "card_rows", torch.tensor(card_rows, dtype=torch.long, device=weights.device), persistent=False
        )
        self.rows: Tensor = trained.take(self.rows_name, [len(card_rows), words["cols"]])
        self.blocks = nn.ModuleList(
            Block(weights, block, family, config, trained, linear) for block in layout["blocks"]
        )
        self.sides = nn.ModuleList(
            SideBlock(trained, block["name"], words["cols"], config.norm_eps, weights.dtype)
            for block in layout["blocks"]
        )
        self.last = RmsNorm(weights, layout["final_norm"], config.norm_eps, trained)
        head = _head(layout, weights, config)
        exact = torch.float32 if is_beside else None
        self.head = None
        if head is not None:
            self.head = Linear(
                weights, head, trained, scaling, is_beside=is_beside, dtype=exact, is_rounded=is_rounded
            )
        self.scores_name = name if head is None else f"{head['name']}.weight"
        embedding = trained.take(name, [words["rows"], words["cols"]])
        self.scores: Tensor = None
        if embedding is not None:
            self.embedding = embedding
        else:
            self.register_buffer("embedding", weights.exact(name), persistent=False)
            if head is None and (is_rounded or not is_beside):
                # Products with it are of the type of all others, and rounded once.
                self.scores = rounded(self.embedding) if is_rounded else self.embedding.to(weights.dtype)
        trained.check_all_taken()
        self._trained = trained.parameters
        frequencies, self.rotary_factor = rotary_frequencies(config)
        frequencies = torch.from_numpy(frequencies).float().to(weights.device)
        self.register_buffer("frequencies", frequencies, persistent=False)

    @classmethod
    def begun(
        cls,
        weights: DeviceWeights,
        config: ModelMetadata,
        card_rows: tuple[int, ...],
        *,
        rank: int,
        alpha: float = 16.0,
        recompute: bool = False,
    ) -> TrainedDecoder:
        """One that changes nothing yet, by torch's random numbers.

        Args:
            weights: as for the class.
            config: as for the class.
            card_rows: as for the class.
            rank: of the factors of all linear layers, beside which norms and rows are trained; 0 trains all
                weights, and rows.
            alpha: factors are scaled by alpha / sqrt(rank).
            recompute: as for the class.
        """
        layout = _layout(config)
        words = layout["words"]["name"]
        embedding = weights.exact(f"{words}.weight")
        values: dict[str, Tensor] = {}
        if card_rows:
            # Drawn where it is the same on every device.
            noise = torch.randn(len(card_rows), embedding.shape[1]).to(embedding)
            values[words + ROWS] = embedding.mean(0) + _ROW_NOISE * noise
        head = _head(layout, weights, config)
        for layer in [*_linears(layout), *([] if head is None else [head])]:
            name = layer["name"]
            if not rank:
                parts = (f"{name}.{part}" for part in ("weight", "bias"))
                values.update((part, weights.exact(part)) for part in parts if part in weights)
                continue
            # The factors of rank-stabilised LoRA begin at no change: B is zero (arXiv:2106.09685).
            a = torch.randn(rank, layer["inputs"]) / math.sqrt(layer["inputs"])
            values[name + A] = a.to(embedding.device)
            values[name + B] = embedding.new_zeros(layer["outputs"], rank)
        values.update((name, weights.exact(name)) for name in _norms(layout))
        if not rank:
            values[f"{words}.weight"] = embedding
        scaling = alpha / math.sqrt(rank) if rank else 1.0
        return cls(weights, config, values, card_rows, scaling=scaling, recompute=recompute)

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend, mask: Any) -> Tensor:
        """int64[b, n] to states [b, n, width] of the products' type, after the last norm."""
        x = F.embedding(ids, self.embedding)
        for row, i in enumerate(self.card_rows):
            x = torch.where((ids == i)[..., None], self.rows[row], x)
        angles = positions[:, None, :, None].float() * self.frequencies
        cos, sin = ((of(angles) * self.rotary_factor).to(self.dtype) for of in (torch.cos, torch.sin))
        for block, side in zip(self.blocks, self.sides, strict=True):
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, attend, mask, use_reentrant=False)
            else:
                x = block(x, cos, sin, attend, mask)
            x = side(x)
        return self.last(x)

    def logits(self, states: Tensor) -> Tensor:
        """[..., width] to float32[..., vocabulary]."""
        if self.is_beside:
            states = states.float()
        if self.head is not None:
            return self.head(states).float()
        scores = self.embedding.to(states.dtype) if self.scores is None else self.scores
        found = F.linear(rounded(states) if self.is_rounded else states, scores).float()
        if self.rows is None:
            return found
        return found.index_copy(-1, self.card_rows, F.linear(states, self.rows.to(states.dtype)).float())

    def trained(self) -> dict[str, Tensor]:
        """What is trained, by the names of a card's file, or of a model's."""
        return dict(self._trained)


def _head(layout: Any, weights: DeviceWeights, config: ModelMetadata) -> Mapping[str, Any] | None:
    """The head, as a layer; None where it is the embedding."""
    name, words = layout["family"]["head"], layout["words"]
    is_tied = config.tied_embeddings
    if f"{name}.weight" not in weights if is_tied is None else is_tied:
        return None
    return {"name": name, "outputs": words["rows"], "inputs": words["cols"]}


def _linears(layout: Any) -> Iterator[Mapping[str, Any]]:
    """The linear layers of all blocks."""
    for block in layout["blocks"]:
        yield from (*block["qkv"], *block["wide"], block["output"], block["down"])


def _norms(layout: Any) -> Iterator[str]:
    """The names of all norms' weights."""
    for block in layout["blocks"]:
        norms = (block["attention_norm"], block["feed_forward_norm"], *(block["head_norms"] or ()))
        yield from (f"{norm['name']}.weight" for norm in norms)
    yield f"{layout['final_norm']['name']}.weight"


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
