"""The layers of every family, written to be read: the reference of the native core.

Tensors are torch's; a pass is [texts, length, ...]. A layer holds its weights and no state beside them; what
a pass knows of its texts, where their keys lie and which cards they use, it is told by a `PassView`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["Block", "Classifier", "LayerCards", "Linear", "Norm", "PassView", "attention", "rotate"]

Tensor = Any
Weights = Mapping[str, Tensor]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name.

    Raises:
        ModelLoadError: there is none.
    """
    if name not in ACTIVATIONS:
        raise ModelLoadError(f"hidden_act {name!r} is not supported; supported: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class LayerCards(Protocol):
    """What the cards of a pass's texts change in a layer."""

    def add(self, linear: Linear, x: Tensor, out: Tensor, product: Tensor | None = None) -> None:
        """Add what they add to a layer of `x` [texts, length, inputs] to `out` [texts, length, outputs].

        `product` is `x Wᵀ`, where that is at hand.
        """
        ...

    def vector(self, name: str, base: Tensor) -> tuple[Tensor, bool]:
        """What stands in place of a vector, and whether it is one for each text, [texts, 1, width]."""
        ...


class PassView(Protocol):
    """What the blocks of a network ask of a pass.

    Attributes:
        bias: added to scores, [texts, 1, length or 1, keys]; None adds nothing.
        is_causal: without a bias, a row sees its text up to itself.
        angles: cosines and sines, [texts, length, 1, head_dim], of sines the first half negative: those of
            blocks that see everything, and behind them those of blocks that see a window, if they are others.
    """

    bias: Tensor | None
    is_causal: bool
    angles: Sequence[tuple[Tensor, Tensor]]

    @property
    def cards(self) -> LayerCards:
        """Those of its texts."""
        ...

    def near(self, reach: int) -> Tensor:
        """As `bias`, where a row sees nothing that is further away than `reach`."""
        ...

    def keys_and_values(self, layer: int, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the texts see, [texts, keys, kv_heads, head_dim].

        Args:
            layer: of the network.
            kv: [texts, length, 2 * kv_heads, head_dim] of the rows, keys first.
        """
        ...


class Linear:
    """`x Wᵀ + b`: one layer, or several that read the same input as one product.

    Args:
        weights: has `{layer}.weight` [outputs, inputs] and, where there is one, `{layer}.bias`.
        layers: their names; outputs lie one behind the other.
    """

    def __init__(self, weights: Weights, *layers: str) -> None:
        parts = [weights[f"{layer}.weight"] for layer in layers]
        self.layers, self.widths = layers, [len(part) for part in parts]
        self.weight = parts[0] if len(parts) == 1 else torch.cat(parts)
        biases = [weights.get(f"{layer}.bias") for layer in layers]
        has_bias = any(bias is not None for bias in biases)
        self.bias = (
            torch.cat(
                [
                    part.new_zeros(len(part)) if bias is None else bias
                    for bias, part in zip(biases, parts, strict=True)
                ]
            )
            if has_bias
            else None
        )

    def __call__(self, x: Tensor, cards: LayerCards) -> Tensor:
        """[texts, length, inputs] to [texts, length, outputs]."""
        out = F.linear(x, self.weight, self.bias)
        cards.add(self, x, out, out if self.bias is None else None)
        return out

    def onto(self, stream: Tensor, x: Tensor, cards: LayerCards) -> Tensor:
        """Add the product to `stream` [texts, length, outputs], in its place: one kernel less than two."""
        flat = stream.view(-1, stream.shape[-1])
        flat.addmm_(x.reshape(-1, x.shape[-1]), self.weight.t())
        if self.bias is not None:
            stream.add_(self.bias)
        cards.add(self, x, stream)
        return stream


class Norm:
    """Layer norm or root mean square norm.

    Args:
        weights: has `{name}.weight` [width] and, for a layer norm that shifts, `{name}.bias`.
        name: of the norm.
        eps: added to the variance.
        is_rms: which of them.
    """

    def __init__(self, weights: Weights, name: str, eps: float, *, is_rms: bool) -> None:
        self.name, self.eps, self.is_rms = name, eps, is_rms
        self.weight = weights[f"{name}.weight"]
        self.bias = None if is_rms else weights.get(f"{name}.bias")

    @classmethod
    def of(cls, weights: Weights, layout: Mapping[str, Any] | None, eps: float) -> Norm | Unnormed:
        """The norm that a layout describes; without one, nothing is normalised."""
        if layout is None:
            return Unnormed()
        return cls(weights, layout["name"], eps, is_rms=layout["needs_bias"] is None)

    @property
    def vectors(self) -> dict[str, Tensor]:
        """What a card may replace, by name."""
        found = {f"{self.name}.weight": self.weight, f"{self.name}.bias": self.bias}
        return {name: vector for name, vector in found.items() if vector is not None}

    def __call__(self, x: Tensor, cards: LayerCards) -> Tensor:
        """[texts, length, ..., width] to the same."""
        weight, differs = cards.vector(f"{self.name}.weight", self.weight)
        bias, shifts = self.bias, False
        if self.bias is not None:
            bias, shifts = cards.vector(f"{self.name}.bias", self.bias)
        if not (differs or shifts):
            return self._normalised(x, weight, bias)
        x = self._normalised(x, None, None)
        shape = (-1, *[1] * (x.ndim - 2), x.shape[-1])
        x = x * (weight.view(shape) if differs else weight)
        return x if bias is None else x + (bias.view(shape) if shifts else bias)

    def _normalised(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        width = x.shape[-1:]
        if self.is_rms:
            return F.rms_norm(x, width, weight, self.eps)
        return F.layer_norm(x, width, weight, bias, self.eps)


class Unnormed:
    """In place of a norm that is not there."""

    def __call__(self, x: Tensor, _cards: LayerCards) -> Tensor:
        """The same."""
        return x


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn the first half of each head against the second, in its place.

    Args:
        x: [texts, length, heads, head_dim].
        cos: [texts, length, 1, head_dim], both halves alike.
        sin: as `cos`, the first half negative.
    """
    torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin, out=x)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, is_causal: bool = False) -> Tensor:
    """Scaled dot-product attention; query head h reads key head `h // (heads / kv_heads)`.

    Args:
        q: [texts, length, heads, head_dim].
        k: [texts, keys, kv_heads, head_dim].
        v: as `k`.
        bias: added to scores, broadcastable to [texts, 1, length, keys]; -inf hides a key.
        is_causal: without a bias, row i sees the keys up to i.

    Returns:
        [texts, length, heads * head_dim].
    """
    texts, length, heads, _ = q.shape
    group = heads // k.shape[2]
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    if length == 1 and group > 1:
        # Heads that share keys are rows of one product: nothing is repeated, keys are read once.
        q = q[:, 0].unflatten(1, (-1, group))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).reshape(texts, 1, -1)
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=bias, is_causal=is_causal)
    return out.transpose(1, 2).flatten(2)


class Block:
    """Attention and a feed-forward layer, with norms before or behind each.

    Args:
        weights: by name.
        layout: names of its parts, as `_native.layout_json` tells them.
        family: the facts of the model's family, from there too.
        config: the model's metadata.
        index: of the block.

    Raises:
        ModelLoadError: the activation is not known.
    """

    def __init__(
        self,
        weights: Weights,
        layout: Mapping[str, Any],
        family: Mapping[str, Any],
        config: ModelMetadata,
        index: int,
    ) -> None:
        self.index, self.heads, self.kv_heads = index, config.num_heads, config.num_kv_heads
        self.is_after, self.is_gated = family["norm_place"] == "after", family["is_gated"]
        self.is_rotary, self.reach = family["is_rotary"], layout["reach"]
        self.activation = activation(config.hidden_act)
        eps = config.norm_eps
        self.attention_norm = Norm.of(weights, layout["attention_norm"], eps)
        self.qkv = Linear(weights, *(layer["name"] for layer in layout["qkv"]))
        self.head_norms = [Norm.of(weights, norm, eps) for norm in layout["head_norms"] or ()]
        self.attended = Linear(weights, layout["output"]["name"])
        self.feed_forward_norm = Norm.of(weights, layout["feed_forward_norm"], eps)
        self.wide = Linear(weights, *(layer["name"] for layer in layout["wide"]))
        self.down = Linear(weights, layout["down"]["name"])

    @property
    def linears(self) -> list[Linear]:
        """What a card may add to."""
        return [self.qkv, self.attended, self.wide, self.down]

    @property
    def norms(self) -> list[Norm]:
        """What a card may replace."""
        norms = [self.attention_norm, *self.head_norms, self.feed_forward_norm]
        return [norm for norm in norms if isinstance(norm, Norm)]

    def __call__(self, x: Tensor, view: PassView) -> Tensor:
        """[texts, length, hidden] to the same, which is computed in its place."""
        cards, is_after = view.cards, self.is_after
        q, kv = self._project(x if is_after else self.attention_norm(x, cards), view)
        k, v = view.keys_and_values(self.index, kv)
        if self.reach is None:
            seen = attention(q, k, v, view.bias, view.is_causal)
        else:
            seen = attention(q, k, v, view.near(self.reach))
        x = self.attended.onto(x, seen, cards)
        if is_after:
            x = self.attention_norm(x, cards)
        wide = self.wide(x if is_after else self.feed_forward_norm(x, cards), cards)
        if self.is_gated:
            gate, up = wide.chunk(2, -1)
            wide = self.activation(gate) * up
        else:
            wide = self.activation(wide)
        x = self.down.onto(x, wide, cards)
        return self.feed_forward_norm(x, cards) if is_after else x

    def _project(self, h: Tensor, view: PassView) -> tuple[Tensor, Tensor]:
        """Queries, and keys with values behind, [texts, length, heads, head_dim].

        They are normed and turned where they are: keys stay beside their values, and go to a cache as one.
        """
        heads, kv_heads = self.heads, self.kv_heads
        mixed = self.qkv(h, view.cards).unflatten(-1, (heads + 2 * kv_heads, -1))
        turning = mixed[:, :, : heads + kv_heads]
        for norm, part in zip(self.head_norms, turning.split([heads, kv_heads], 2), strict=False):
            part.copy_(norm(part, view.cards))
        if self.is_rotary:
            rotate(turning, *view.angles[0 if self.reach is None else -1])
        return mixed[:, :, :heads], mixed[:, :, heads:]


class Classifier:
    """The head of a model that scores whole texts: `output(norm(activation(dense(x))))`.

    Args:
        weights: by name.
        layout: as of `Block`.
        eps: added to the variance.
    """

    def __init__(self, weights: Weights, layout: Mapping[str, Any], eps: float) -> None:
        self.dense = Linear(weights, layout["dense"]["name"])
        self.activation = activation(layout["activation"])
        self.norm = Norm.of(weights, layout["norm"], eps)
        self.output = Linear(weights, layout["output"]["name"])

    @property
    def linears(self) -> list[Linear]:
        """What a card may add to."""
        return [self.dense, self.output]

    @property
    def norms(self) -> list[Norm]:
        """What a card may replace."""
        return [self.norm] if isinstance(self.norm, Norm) else []

    def __call__(self, x: Tensor, cards: LayerCards) -> Tensor:
        """Pooled states [texts, 1, hidden] to scores [texts, 1, labels]."""
        return self.output(self.norm(self.activation(self.dense(x, cards)), cards), cards)
