"""Attention under the mask of a packed batch: in blocks on a GPU, dense elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ai_os_diffusion.training.positions import visible
from ai_os_diffusion.training.torch.layers import rounded
from ai_os_diffusion.training.torch.network import TrainedDecoder

__all__ = ["Attention", "block_mask", "dense_attention", "dense_mask", "rounded_attention"]

Tensor = Any

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Attention:
    """What the positions of a batch see, and attention to it.

    Args:
        is_blocked: by flex attention, whose masks skip blocks of keys that nobody sees.
        is_rounded: operands of its products are rounded to brain floats, where it is not in blocks.
    """

    def __init__(self, *, is_blocked: bool, is_rounded: bool = False) -> None:
        self._attend = rounded_attention if is_rounded else dense_attention
        self._make: Callable[..., Any] | None = None
        if is_blocked:
            from torch.nn.attention.flex_attention import create_block_mask

            self._make = torch.compile(create_block_mask)

    @classmethod
    def on(cls, device: Any, decoder: TrainedDecoder) -> Attention:
        """The one for a device; on a GPU the decoder's blocks are compiled."""
        if device.type != "cuda":
            return cls(is_blocked=False)
        # One program serves all blocks; each counts as a recompilation of the first.
        torch._dynamo.config.recompile_limit = 4 * len(decoder.blocks)
        for block in decoder.blocks:
            block.compile(dynamic=False)
        return cls(is_blocked=True)

    def mask(self, batch: Mapping[str, Tensor]) -> Any:
        """What the positions of a batch see."""
        return dense_mask(batch) if self._make is None else block_mask(batch, self._make)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
        """(q[b, heads, n, d], k and v[b, key heads, n, d], a mask of `mask`) to [b, heads, n, d]."""
        if self._make is None:
            return self._attend(q, k, v, mask)
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)


def block_mask(batch: Mapping[str, Tensor], make: Callable[..., Any]) -> Any:
    """The mask of a batch for flex attention (arXiv:2412.05496), by its `create_block_mask`."""
    document, level, noisy = batch["document"], batch["level"], batch["noisy"]

    def sees(row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        del head
        return visible(document[row], level[row], noisy[row], q, k)

    rows, length = document.shape
    return make(sees, rows, None, length, length, device=str(document.device))


def dense_mask(batch: Mapping[str, Tensor]) -> Tensor:
    """bool[b, 1, n, n]; positions of no document see themselves, for a softmax over nothing is no number."""
    at = torch.arange(batch["document"].shape[1], device=batch["document"].device)
    q, k = at[:, None], at[None]
    rows = zip(batch["document"], batch["level"], batch["noisy"], strict=True)
    return torch.stack([visible(*row, q, k) | (q == k) for row in rows])[:, None]


def dense_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention under a mask of bool[b, 1, n, m].

    Query heads that share keys become rows of one head, so that no key is copied.
    """
    rows = q.shape[1] // k.shape[1]
    folded = q.unflatten(1, (k.shape[1], rows)).flatten(2, 3)
    # The backward passes of fused kernels that add up in one order leave most of a GPU idle.
    backends = [SDPBackend.MATH] if q.is_cuda and torch.are_deterministic_algorithms_enabled() else _FUSED
    with sdpa_kernel(backends):
        out = F.scaled_dot_product_attention(folded, k, v, attn_mask=mask.repeat(1, 1, rows, 1))
    return out.unflatten(2, (rows, q.shape[2])).flatten(1, 2)


def rounded_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention under a mask of bool[b, 1, n, m], as the native trainer rounds its operands."""
    rows = q.shape[1] // k.shape[1]
    keys, values = (rounded(x).repeat_interleave(rows, 1) for x in (k, v))
    scores = rounded(q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return rounded(scores.masked_fill(~mask, -torch.inf).softmax(-1)) @ values
