"""The layers of encoders and decoders, written to be read: the reference of the native core.

Tensors are torch's; shapes are [batch, length, ...]. A block takes its weights from a mapping by their
Hugging Face names and holds no state beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

__all__ = [
    "BertBlock",
    "DecoderBlock",
    "Weights",
    "attention",
    "join_heads",
    "linear",
    "rms_norm",
    "rotate",
    "split_heads",
    "swiglu",
]

Tensor = Any
Weights = Mapping[str, Tensor]


def linear(x: Tensor, weights: Weights, prefix: str) -> Tensor:
    """`x Wᵀ + b` with `{prefix}.weight` [outputs, inputs] and, where there is one, `{prefix}.bias`."""
    return F.linear(x, weights[f"{prefix}.weight"], weights.get(f"{prefix}.bias"))


def layer_norm(x: Tensor, weights: Weights, prefix: str, eps: float) -> Tensor:
    """Mean 0 and deviation 1 over the last axis, then scaled and shifted."""
    return F.layer_norm(x, x.shape[-1:], weights[f"{prefix}.weight"], weights[f"{prefix}.bias"], eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square 1 over the last axis, then scaled by `weight` [width]."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first half of each head against the second.

    Args:
        x: [batch, heads, length, head_dim].
        cos: [length, head_dim / 2].
        sin: as `cos`.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[batch, length, heads * head_dim] to [batch, heads, length, head_dim]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[batch, heads, length, head_dim] to [batch, length, heads * head_dim]."""
    return x.transpose(1, 2).flatten(-2)


def attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Scaled dot-product attention; query head h reads key head `h // (heads / kv_heads)`.

    Args:
        q: [batch, heads, length, head_dim].
        k: [batch, kv_heads, context, head_dim].
        v: as `k`.
        seen: bool, broadcastable to [batch, heads, length, context]; where a query may look.

    Returns:
        [batch, heads, length, head_dim].
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def swiglu(x: Tensor, weights: Weights, prefix: str) -> Tensor:
    """`down(silu(gate(x)) * up(x))`."""
    gate = F.silu(linear(x, weights, f"{prefix}.gate_proj"))
    return linear(gate * linear(x, weights, f"{prefix}.up_proj"), weights, f"{prefix}.down_proj")


class BertBlock:
    """Attention and a feed-forward layer, each followed by a norm. Source: arXiv:1810.04805."""

    def __init__(self, weights: Weights, index: int, heads: int, eps: float, activation: str) -> None:
        self.weights, self.heads, self.eps = weights, heads, eps
        self.prefix = f"encoder.layer.{index}"
        self.activation = {
            "gelu": F.gelu,
            "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
            "relu": F.relu,
            "silu": F.silu,
        }[activation]

    def __call__(self, x: Tensor, seen: Tensor) -> Tensor:
        """[batch, length, hidden] to the same; `seen` is bool[batch, 1, 1, length]."""
        weights, prefix = self.weights, self.prefix
        q, k, v = (
            split_heads(linear(x, weights, f"{prefix}.attention.self.{part}"), self.heads)
            for part in ("query", "key", "value")
        )
        attended = join_heads(attention(q, k, v, seen))
        x = x + linear(attended, weights, f"{prefix}.attention.output.dense")
        x = layer_norm(x, weights, f"{prefix}.attention.output.LayerNorm", self.eps)
        wide = self.activation(linear(x, weights, f"{prefix}.intermediate.dense"))
        x = x + linear(wide, weights, f"{prefix}.output.dense")
        return layer_norm(x, weights, f"{prefix}.output.LayerNorm", self.eps)


class DecoderBlock:
    """Attention and a gated feed-forward layer, each behind a norm: Llama, Qwen2 and Qwen3.

    Biases and norms of queries and keys are used where the weights have them.
    """

    def __init__(self, weights: Weights, index: int, heads: int, kv_heads: int, eps: float) -> None:
        self.weights, self.heads, self.kv_heads, self.eps = weights, heads, kv_heads, eps
        self.prefix = f"model.layers.{index}"

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, seen: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step over new tokens.

        Args:
            x: [batch, length, hidden].
            cos: [length, head_dim / 2] of the new positions.
            sin: as `cos`.
            seen: bool, broadcastable to [batch, heads, length, context].
            past: keys and values of earlier tokens, [batch, kv_heads, past, head_dim].

        Returns:
            [batch, length, hidden], and keys and values with the new tokens behind.
        """
        weights, prefix = self.weights, self.prefix
        h = rms_norm(x, weights[f"{prefix}.input_layernorm.weight"], self.eps)
        q = self._heads(h, "q", self.heads)
        k = self._heads(h, "k", self.kv_heads)
        v = split_heads(linear(h, weights, f"{prefix}.self_attn.v_proj"), self.kv_heads)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        x = x + linear(join_heads(attention(q, k, v, seen)), weights, f"{prefix}.self_attn.o_proj")
        h = rms_norm(x, weights[f"{prefix}.post_attention_layernorm.weight"], self.eps)
        return x + swiglu(h, weights, f"{prefix}.mlp"), (k, v)

    def _heads(self, h: Tensor, part: str, heads: int) -> Tensor:
        x = split_heads(linear(h, self.weights, f"{self.prefix}.self_attn.{part}_proj"), heads)
        norm = self.weights.get(f"{self.prefix}.self_attn.{part}_norm.weight")
        return x if norm is None else rms_norm(x, norm, self.eps)
