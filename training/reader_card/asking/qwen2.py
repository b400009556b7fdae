"""Qwen2, run in large batches: prompts at once, answers token by token.

The library that runs it best launches its kernels one by one, and copies the whole cache for each token.
Here the cache has its size from the beginning, what all prompts of a batch have in common is kept once, and
a step can be captured as a CUDA graph. Architecture: Qwen2.5 technical report, arXiv:2412.15115.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Cache", "Prefix", "Qwen2"]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of a layer; those that read the same input stand in one matrix."""

    norm: Tensor
    attend: Tensor
    attend_bias: Tensor
    attended: Tensor
    feed_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the tokens that all prompts of a batch begin with.

    Attributes:
        keys: [layers, groups, tokens, width of a head].
        values: likewise.
    """

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Its tokens."""
        return self.keys.shape[2]


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of what follows the prefix, by slots.

    Attributes:
        keys: [layers, rows, groups, slots, width of a head].
        values: likewise.
    """

    keys: Tensor
    values: Tensor

    def cut(self, rows: int, slots: int) -> Cache:
        """The first rows and slots of it, in the same memory."""
        return Cache(self.keys[:, :rows, :, :slots], self.values[:, :rows, :, :slots])


class Qwen2:
    """The weights on a device.

    Args:
        folder: that `unpack_model.py` wrote.
        device: where they go, in bfloat16.

    Attributes:
        width: of a hidden state.
    """

    dtype = torch.bfloat16

    def __init__(self, folder: Path, device: torch.device) -> None:
        told = json.loads((folder / "settings.json").read_text())
        self.device = device
        self.width = int(told["qwen2.embedding_length"])
        self._heads = int(told["qwen2.attention.head_count"])
        self._groups = int(told["qwen2.attention.head_count_kv"])
        self._epsilon = float(told["qwen2.attention.layer_norm_rms_epsilon"])
        self._head_width = self.width // self._heads
        self._layer_count = int(told["qwen2.block_count"])
        half = torch.arange(0, self._head_width, 2, device=device, dtype=torch.float32) / self._head_width
        self._frequencies = 1.0 / float(told["qwen2.rope.freq_base"]) ** half
        named = load_file(folder / "weights.safetensors", device=str(device))
        self._embeddings = named["token_embd.weight"]
        self._head = named.get("output.weight", self._embeddings)
        self._norm = named["output_norm.weight"]
        self._layers = [_layer(named, number) for number in range(self._layer_count)]

    def cache(self, rows: int, slots: int) -> Cache:
        """Room for rows of so many tokens."""
        shape = self._layer_count, rows, self._groups, slots, self._head_width
        return Cache(
            torch.zeros(shape, device=self.device, dtype=self.dtype),
            torch.zeros(shape, device=self.device, dtype=self.dtype),
        )

    def prefix(self, tokens: Sequence[int]) -> Prefix:
        """What prompts begin with."""
        ids = torch.tensor([list(tokens)], device=self.device)
        places = torch.arange(len(tokens), device=self.device)[None]
        cache = self.cache(1, len(tokens))
        self.read(ids, places, places[:, :, None] >= places[:, None, :], None, cache)
        return Prefix(cache.keys[:, 0], cache.values[:, 0])

    def read(
        self, ids: Tensor, places: Tensor, mask: Tensor, prefix: Prefix | None, cache: Cache | None
    ) -> Tensor:
        """Hidden states of whole prompts.

        Args:
            ids: int[rows, tokens].
            places: int[rows, tokens], counted from the beginning of the prefix.
            mask: bool[rows, tokens, tokens], which token looks at which (last); all look at the prefix.
            prefix: what stands before each.
            cache: takes keys and values, slot by slot as the tokens stand.

        Returns: [rows, tokens, width], normalised for `logits`.
        """
        turn = self._turns(places)
        hidden = F.embedding(ids, self._embeddings)
        if prefix is not None:
            mask = F.pad(mask, (prefix.length, 0), value=True)
        bias = torch.zeros(mask.shape, device=self.device, dtype=self.dtype).masked_fill_(~mask, -torch.inf)
        for number, layer in enumerate(self._layers):
            query, key, value = self._parts(layer, hidden, turn)
            query, key, value = (part.transpose(1, 2) for part in (query, key, value))
            if cache is not None:
                cache.keys[number, :, :, : ids.shape[1]] = key
                cache.values[number, :, :, : ids.shape[1]] = value
            if prefix is not None:
                rows = ids.shape[0]
                key = torch.cat([prefix.keys[number].expand(rows, -1, -1, -1), key], 2)
                value = torch.cat([prefix.values[number].expand(rows, -1, -1, -1), value], 2)
            times = self._heads // self._groups
            key, value = (part.repeat_interleave(times, 1) for part in (key, value))
            with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
                found = F.scaled_dot_product_attention(query, key, value, bias[:, None])
            hidden = self._onward(layer, hidden, found.transpose(1, 2).flatten(2))
        return F.rms_norm(hidden, hidden.shape[-1:], self._norm, self._epsilon)

    def step(
        self, ids: Tensor, places: Tensor, slot: Tensor, hidden_slots: Tensor, prefix: Prefix, cache: Cache
    ) -> Tensor:
        """Logits after one more token of each row; nothing in it depends on values on the host.

        Args:
            ids: int[rows].
            places: int[rows].
            slot: int[1], where the token goes.
            hidden_slots: [rows, slots], 0 for those that are looked at, -inf for others.
            prefix: what stands before each.
            cache: keys and values of the tokens before; takes those of this one.

        Returns: float[rows, vocabulary].
        """
        rows, times, width = len(ids), self._heads // self._groups, self._head_width
        turn = self._turns(places[:, None])
        hidden = F.embedding(ids[:, None], self._embeddings)
        for number, layer in enumerate(self._layers):
            query, key, value = self._parts(layer, hidden, turn)
            keys, values = cache.keys[number], cache.values[number]
            keys.index_copy_(2, slot, key.transpose(1, 2))
            values.index_copy_(2, slot, value.transpose(1, 2))
            query = query.view(rows, self._groups, times, width) * width**-0.5
            # All rows look at the prefix, which is read once for all of them.
            common = query.transpose(0, 1).reshape(self._groups, rows * times, width)
            far = torch.matmul(common, prefix.keys[number].mT).view(self._groups, rows, times, -1)
            near = torch.matmul(query, keys.mT) + hidden_slots[:, None, None]
            shares = torch.cat([far.transpose(0, 1), near], -1).float().softmax(-1).to(self.dtype)
            far_shares, near_shares = shares.split([prefix.length, keys.shape[2]], -1)
            far_shares = far_shares.transpose(0, 1).reshape(self._groups, rows * times, -1)
            found = torch.matmul(near_shares, values)
            far_found = torch.matmul(far_shares, prefix.values[number])
            found = found + far_found.view(self._groups, rows, times, width).transpose(0, 1)
            hidden = self._onward(layer, hidden, found.reshape(rows, 1, -1))
        hidden = F.rms_norm(hidden[:, 0], hidden.shape[-1:], self._norm, self._epsilon)
        return self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """float[…, vocabulary] of hidden states."""
        return F.linear(hidden, self._head).float()

    def _turns(self, places: Tensor) -> tuple[Tensor, Tensor]:
        angles = places[..., None].float() * self._frequencies
        angles = torch.cat([angles, angles], -1)[:, :, None]
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def _parts(
        self, layer: _Layer, hidden: Tensor, turn: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [rows, tokens, heads or groups, width of a head]."""
        normed = F.rms_norm(hidden, hidden.shape[-1:], layer.norm, self._epsilon)
        made = F.linear(normed, layer.attend, layer.attend_bias).unflatten(-1, (-1, self._head_width))
        turned, value = made.split([self._heads + self._groups, self._groups], 2)
        cosine, sine = turn
        first, second = turned.chunk(2, -1)
        turned = turned * cosine + torch.cat([-second, first], -1) * sine
        query, key = turned.split([self._heads, self._groups], 2)
        return query, key, value

    def _onward(self, layer: _Layer, hidden: Tensor, found: Tensor) -> Tensor:
        hidden = hidden + F.linear(found, layer.attended)
        normed = F.rms_norm(hidden, hidden.shape[-1:], layer.feed_norm, self._epsilon)
        gate, up = F.linear(normed, layer.gate_up).chunk(2, -1)
        return hidden + F.linear(F.silu(gate) * up, layer.down)


def _layer(named: dict[str, Tensor], number: int) -> _Layer:
    def take(name: str) -> Tensor:
        return named.pop(f"blk.{number}.{name}")

    return _Layer(
        take("attn_norm.weight"),
        torch.cat([take(f"attn_{part}.weight") for part in "qkv"]),
        torch.cat([take(f"attn_{part}.bias") for part in "qkv"]),
        take("attn_output.weight"),
        take("ffn_norm.weight"),
        torch.cat([take("ffn_gate.weight"), take("ffn_up.weight")]),
        take("ffn_down.weight"),
    )
