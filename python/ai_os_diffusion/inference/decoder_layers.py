"""The layers of encoders and decoders, written to be read: the reference of the native core.

Tensors are torch's; a pass is [texts, length, ...]. A layer holds its weights and no state beside them; what
a pass knows of its texts, where their keys lie and which cards they use, it is told by a `PassView`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F

__all__ = ["BertBlock", "DecoderBlock", "LayerCards", "Linear", "Norm", "PassView", "attention", "rotate"]

Tensor = Any
Weights = Mapping[str, Tensor]

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class LayerCards(Protocol):
    """What the cards of a pass's texts change in a layer."""

    def add(self, linear: Linear, x: Tensor, out: Tensor) -> None:
        """Add the low-rank products of `x` [texts, length, inputs] to `out` [texts, length, outputs]."""
        ...

    def vector(self, name: str, base: Tensor) -> tuple[Tensor, bool]:
        """What stands in place of a vector, and whether it is one for each text, [texts, 1, width]."""
        ...


class PassView(Protocol):
    """What the blocks of a network ask of a pass.

    Attributes:
        bias: added to scores, [texts, 1, length or 1, keys]; None adds nothing.
        is_causal: without a bias, a row sees its text up to itself.
        cos: [texts, length, 1, head_dim], for decoders.
        sin: as `cos`, the first half negative.
    """

    bias: Tensor | None
    is_causal: bool
    cos: Tensor
    sin: Tensor

    @property
    def cards(self) -> LayerCards:
        """Those of its texts."""
        ...

    def keys_and_values(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the texts see, [texts, keys, kv_heads, head_dim], given those of the rows."""
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
        cards.add(self, x, out)
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
    """Layer norm, or root mean square norm where there is no bias.

    Args:
        weights: has `{name}.weight` [width] and, for a layer norm, `{name}.bias`.
        name: of the norm.
        eps: added to the variance.
        is_rms: which of them.
    """

    def __init__(self, weights: Weights, name: str, eps: float, *, is_rms: bool) -> None:
        self.name, self.eps = name, eps
        self.weight = weights[f"{name}.weight"]
        self.bias = None if is_rms else weights[f"{name}.bias"]

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
        if self.bias is None:
            return F.rms_norm(x, width, weight, self.eps)
        return F.layer_norm(x, width, weight, bias, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first half of each head against the second.

    Args:
        x: [texts, length, heads, head_dim].
        cos: [texts, length, 1, head_dim], both halves alike.
        sin: as `cos`, the first half negative.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


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


class BertBlock:
    """Attention and a feed-forward layer, each followed by a norm. Source: arXiv:1810.04805."""

    def __init__(self, weights: Weights, index: int, heads: int, eps: float, activation: str) -> None:
        prefix, self.index, self.heads = f"encoder.layer.{index}", index, heads
        self.activation = ACTIVATIONS[activation]
        self.qkv = Linear(weights, *(f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")))
        self.attended = Linear(weights, f"{prefix}.attention.output.dense")
        self.attention_norm = Norm(weights, f"{prefix}.attention.output.LayerNorm", eps, is_rms=False)
        self.wide = Linear(weights, f"{prefix}.intermediate.dense")
        self.narrow = Linear(weights, f"{prefix}.output.dense")
        self.output_norm = Norm(weights, f"{prefix}.output.LayerNorm", eps, is_rms=False)

    @property
    def linears(self) -> list[Linear]:
        """What a card may add to."""
        return [self.qkv, self.attended, self.wide, self.narrow]

    @property
    def norms(self) -> list[Norm]:
        """What a card may replace."""
        return [self.attention_norm, self.output_norm]

    def __call__(self, x: Tensor, view: PassView) -> Tensor:
        """[texts, length, hidden] to the same, which is computed in its place."""
        cards = view.cards
        q, k, v = self.qkv(x, cards).unflatten(-1, (3, self.heads, -1)).unbind(2)
        k, v = view.keys_and_values(self.index, k, v)
        x = self.attended.onto(x, attention(q, k, v, view.bias), cards)
        x = self.attention_norm(x, cards)
        x = self.narrow.onto(x, self.activation(self.wide(x, cards)), cards)
        return self.output_norm(x, cards)


class DecoderBlock:
    """Attention and a gated feed-forward layer, each behind a norm: Llama, Qwen2 and Qwen3.

    Biases and norms of queries and keys are used where the weights have them.
    """

    def __init__(self, weights: Weights, index: int, heads: int, kv_heads: int, eps: float) -> None:
        prefix, self.index, self.heads, self.kv_heads = f"model.layers.{index}", index, heads, kv_heads
        self.attention_norm = Norm(weights, f"{prefix}.input_layernorm", eps, is_rms=True)
        self.qkv = Linear(weights, *(f"{prefix}.self_attn.{part}_proj" for part in "qkv"))
        self.head_norms = [
            Norm(weights, f"{prefix}.self_attn.{part}_norm", eps, is_rms=True)
            for part in "qk"
            if f"{prefix}.self_attn.{part}_norm.weight" in weights
        ]
        self.attended = Linear(weights, f"{prefix}.self_attn.o_proj")
        self.mlp_norm = Norm(weights, f"{prefix}.post_attention_layernorm", eps, is_rms=True)
        self.gate_up = Linear(weights, f"{prefix}.mlp.gate_proj", f"{prefix}.mlp.up_proj")
        self.down = Linear(weights, f"{prefix}.mlp.down_proj")

    @property
    def linears(self) -> list[Linear]:
        """What a card may add to."""
        return [self.qkv, self.attended, self.gate_up, self.down]

    @property
    def norms(self) -> list[Norm]:
        """What a card may replace."""
        return [self.attention_norm, *self.head_norms, self.mlp_norm]

    def __call__(self, x: Tensor, view: PassView) -> Tensor:
        """[texts, length, hidden] to the same, which is computed in its place."""
        cards, heads, kv_heads = view.cards, self.heads, self.kv_heads
        mixed = self.qkv(self.attention_norm(x, cards), cards)
        mixed = mixed.unflatten(-1, (heads + 2 * kv_heads, -1))
        turning, v = mixed[:, :, : heads + kv_heads], mixed[:, :, heads + kv_heads :]
        if self.head_norms:
            parts = turning.split([heads, kv_heads], 2)
            turning = torch.cat(
                [norm(part, cards) for norm, part in zip(self.head_norms, parts, strict=True)], 2
            )
        turned = rotate(turning, view.cos, view.sin)
        k, v = view.keys_and_values(self.index, turned[:, :, heads:], v)
        x = self.attended.onto(x, attention(turned[:, :, :heads], k, v, view.bias, view.is_causal), cards)
        gate, up = self.gate_up(self.mlp_norm(x, cards), cards).chunk(2, -1)
        return self.down.onto(x, F.silu(gate) * up, cards)
