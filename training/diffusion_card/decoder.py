"""A Llama decoder with a low-rank card: the base in bfloat16 and frozen, the residual stream in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_WIDTH = 64
THETA = 100_000.0
EPSILON = 1e-5
CARD_ROWS = (4, 16)
"""Rows of the embedding that belong to the card: MASK and NULL."""

LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_GGUF_NAMES = dict(
    zip(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), LINEARS, strict=True)
)
_GGUF_NAMES |= {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}

Attention = Callable[[Tensor, Tensor, Tensor, object], Tensor]
"""(q[b, heads, n, d], k and v[b, key heads, m, d], mask) -> [b, heads, n, d]."""


def read_gguf(path: Path) -> dict[str, Tensor]:
    """Dequantised float32 tensors named as in Hugging Face; q and k have half-split rotary rows."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    out = {}
    for tensor in GGUFReader(str(path)).tensors:
        data = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{_GGUF_NAMES[parts[2]]}.weight"
            if parts[2] in ("attn_q", "attn_k"):
                pairs = data.reshape(-1, HEAD_WIDTH // 2, 2, data.shape[1])
                data = pairs.swapaxes(1, 2).reshape(data.shape)
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        out[name] = torch.from_numpy(np.ascontiguousarray(data))
    return out


class LowRank(nn.Module):
    """W x + alpha / sqrt(rank) · B A x (rsLoRA, arXiv:2312.03732)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(torch.bfloat16), persistent=False)
        self.scale = alpha / math.sqrt(rank)
        self.a = nn.Parameter(torch.randn(rank, weight.shape[1]) / math.sqrt(weight.shape[1]))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def merged(self) -> Tensor:
        """bfloat16[out, in] of W + alpha / sqrt(rank) · B A, rounded once.

        Over the tokens of a batch one product of this is far less work for memory than three thin ones.
        """
        dtype = self.weight.dtype
        return torch.addmm(self.weight, self.b.to(dtype), self.a.to(dtype), alpha=self.scale)


def projected(x: Tensor, *linears: LowRank) -> tuple[Tensor, ...]:
    """bfloat16[..., in] -> bfloat16[..., out] of each, in one product."""
    rows = torch.cat([linear.merged() for linear in linears])
    return functional.linear(x, rows).split([len(linear.weight) for linear in linears], -1)


class Norm(nn.Module):
    """RMS norm of float32, to bfloat16."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        """float32[..., width] -> bfloat16[..., width]."""
        return (functional.rms_norm(x, (x.shape[-1],), eps=EPSILON) * self.weight).to(torch.bfloat16)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Block(nn.Module):
    """Attention and a gated feed-forward layer."""

    def __init__(self, weights: dict[str, Tensor], prefix: str, rank: int, alpha: float) -> None:
        super().__init__()
        self.input_layernorm = Norm(weights[f"{prefix}.input_layernorm.weight"])
        self.post_attention_layernorm = Norm(weights[f"{prefix}.post_attention_layernorm.weight"])
        for name in LINEARS:
            setattr(self, name.split(".")[1], LowRank(weights[f"{prefix}.{name}.weight"], rank, alpha))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attention, mask: object) -> Tensor:
        """float32[b, n, width] -> the same; `cos` and `sin` are [b, 1, n, HEAD_WIDTH / 2]."""

        def heads(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], -1, HEAD_WIDTH).transpose(1, 2)

        h = self.input_layernorm(x)
        q, k, v = map(heads, projected(h, self.q_proj, self.k_proj, self.v_proj))
        mixed = attend(_rotated(q, cos, sin), _rotated(k, cos, sin), v, mask)
        (mixed,) = projected(mixed.transpose(1, 2).reshape(h.shape), self.o_proj)
        x = x + mixed.float()
        gate, up = projected(self.post_attention_layernorm(x), self.gate_proj, self.up_proj)
        (mixed,) = projected(functional.silu(gate) * up, self.down_proj)
        return x + mixed.float()


class Decoder(nn.Module):
    """Hidden states of ids; `logits` of those that are wanted."""

    def __init__(self, weights: dict[str, Tensor], rank: int, alpha: float = 16.0) -> None:
        super().__init__()
        embedding = weights["model.embed_tokens.weight"]
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("head", embedding.to(torch.bfloat16), persistent=False)
        self.register_buffer("card_rows", torch.tensor(CARD_ROWS), persistent=False)
        self.rows = nn.Parameter(embedding.mean(0) + 0.02 * torch.randn(len(CARD_ROWS), embedding.shape[1]))
        count = sum(name.endswith("input_layernorm.weight") for name in weights)
        self.layers = nn.ModuleList(Block(weights, f"model.layers.{i}", rank, alpha) for i in range(count))
        self.norm = Norm(weights["model.norm.weight"])

    def forward(self, ids: Tensor, positions: Tensor, attend: Attention, mask: object) -> Tensor:
        """int64[b, n] -> bfloat16[b, n, width]."""
        x = functional.embedding(ids, self.embedding)
        for row, i in enumerate(CARD_ROWS):
            x = torch.where((ids == i)[..., None], self.rows[row], x)
        half = torch.arange(HEAD_WIDTH // 2, device=ids.device)
        angles = positions[:, None, :, None].float() * THETA ** (-half / half.numel())
        cos, sin = angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16)
        for layer in self.layers:
            x = layer(x, cos, sin, attend, mask)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """bfloat16[..., width] -> float32[..., vocabulary]."""
        base = (hidden @ self.head.T).float()
        return base.index_copy(-1, self.card_rows, (hidden @ self.rows.to(hidden.dtype).T).float())

    def card(self) -> dict[str, Tensor]:
        """What is trained, float32 on the CPU, under the names that a card's file has."""
        values = dict(self.named_parameters())
        return {
            name: values[ours].detach().float().cpu().contiguous()
            for ours, name in self._card_names().items()
        }

    @torch.no_grad()
    def begin_from(self, card: dict[str, Tensor]) -> None:
        """Go on from a card, as `card` or `quantised` gives it.

        Raises:
            ValueError: it has other tensors, or of other shapes.
        """
        values, names = dict(self.named_parameters()), self._card_names()
        factors = restored(card)
        if factors.keys() != set(names.values()):
            odd = min(factors.keys() ^ set(names.values()))
            raise ValueError(f"the card and this model differ in {odd!r}")
        for ours, name in names.items():
            if factors[name].shape != values[ours].shape:
                raise ValueError(
                    f"{name!r} has shape {tuple(factors[name].shape)}, expected {tuple(values[ours].shape)}: "
                    "is --rank the card's?"
                )
            values[ours].copy_(factors[name])

    def _card_names(self) -> dict[str, str]:
        """Names of the parameters, and those that a card's file has for them."""
        names = {"rows": "model.embed_tokens.rows"}
        for name, _ in self.named_parameters():
            layer, _, rest = name.removeprefix("layers.").partition(".")
            linear = next((linear for linear in LINEARS if rest.startswith(linear.split(".")[1] + ".")), None)
            if linear:
                names[name] = f"model.layers.{layer}.{linear}.lora_{rest[-1].upper()}.weight"
            elif name != "rows":
                names[name] = f"model.{name}"
        return names


def dense_attention(q: Tensor, k: Tensor, v: Tensor, mask: object) -> Tensor:
    """Attention under a mask of bool[b, 1, n, m]; for the CPU, and for writing.

    Query heads that share keys become rows of one head, so that no key is copied.
    """
    assert isinstance(mask, Tensor)
    rows = q.shape[1] // k.shape[1]
    folded = q.unflatten(1, (k.shape[1], rows)).flatten(2, 3)
    out = functional.scaled_dot_product_attention(folded, k, v, attn_mask=mask.repeat(1, 1, rows, 1))
    return out.unflatten(2, (rows, q.shape[2])).flatten(1, 2)


class KeptKeys:
    """Attention over the keys of earlier calls and of this one: what was read once is not read again.

    Each call of the decoder asks it once a layer, in order. `keeps` tells whether a call's own keys stay.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._layer = 0
        self.keeps = True

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: object) -> Tensor:
        """As `dense_attention`; the mask counts the kept keys first."""
        layer, is_first = self._layer, self._layer == len(self._kept)
        if not is_first:
            before = self._kept[layer]
            k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
        if self.keeps:
            self._kept[layer : layer + 1] = [(k, v)]
        self._layer += 1
        return dense_attention(q, k, v, mask)

    def begin(self, *, keeps: bool) -> KeptKeys:
        """Before each call of the decoder."""
        self._layer, self.keeps = 0, keeps
        return self


def quantised(card: dict[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank factors as int8 with one float16 scale a row; the rest as it is."""
    out = {}
    for name, value in card.items():
        if ".lora_" not in name:
            out[name] = value
            continue
        scale = (value.abs().amax(1).clamp_min(1e-8) / 127).half()
        out[name] = (value / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        out[name.removesuffix(".weight") + ".scale"] = scale
    return out


def restored(card: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors of what `quantised` made."""
    return {
        name: value.float() * card[scale].float()[:, None]
        if (scale := name.removesuffix(".weight") + ".scale") in card
        else value.float()
        for name, value in card.items()
        if not name.endswith(".scale")
    }
