"""From the states of texts to one vector each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["check_pooling", "pool"]

Tensor = Any


def pool(states: Tensor, counts: Tensor, kind: str, skip: int) -> Tensor:
    """One vector of each text.

    Args:
        states: [texts, length, width].
        counts: int64[texts]; what is behind so many states is padding.
        kind: one of `POOLINGS`.
        skip: states at the beginning that take no part; the last one always does.

    Returns:
        float32[texts, width].
    """
    first = (counts - 1).clamp_max(skip)
    places = torch.arange(states.shape[1], device=states.device)
    is_pooled = (places >= first[:, None]) & (places < counts[:, None])
    found: Tensor = _POOLINGS[kind](states.float(), is_pooled[..., None], first, counts)
    return found


def check_pooling(kind: str) -> None:
    """Refuse what is none of `POOLINGS`.

    Raises:
        ModelLoadError: it is none.
    """
    if kind not in _POOLINGS:
        raise ModelLoadError(f'pooling "{kind}" is not supported; supported: {", ".join(_POOLINGS)}')


def _row(states: Tensor, at: Tensor) -> Tensor:
    return states.gather(1, at[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]


def _mean(h: Tensor, kept: Tensor, power: float) -> Tensor:
    return (h * kept).sum(1) / kept.sum(1) ** power


def _weighted(h: Tensor, kept: Tensor, *_bounds: Tensor) -> Tensor:
    # A place counts from the beginning of the text, whether what stands before is pooled or not.
    weights = kept * torch.arange(1, h.shape[1] + 1, device=h.device)[:, None]
    return (h * weights).sum(1) / weights.sum(1)


_POOLINGS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "mean": lambda h, kept, *_: _mean(h, kept, 1.0),
    "cls": lambda h, _, first, __: _row(h, first),
    "last": lambda h, _, __, counts: _row(h, counts - 1),
    "max": lambda h, kept, *_: h.masked_fill(~kept, float("-inf")).amax(1),
    "mean_sqrt": lambda h, kept, *_: _mean(h, kept, 0.5),
    "weighted_mean": _weighted,
}
