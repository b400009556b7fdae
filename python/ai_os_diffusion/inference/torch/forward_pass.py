"""What one forward call computes, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch

from ai_os_diffusion.inference.torch.adapter import NO_CARDS, Cards
from ai_os_diffusion.inference.torch.kv_cache import PAGE_TOKENS, KvCache

__all__ = ["CachedView", "OwnView", "Pass"]

Tensor = Any
Angles = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pass:
    """Rows of several texts, what each sees, and where their keys go.

    A text is padded to the length of the longest. Everything that differs between two passes of one shape is
    a value in a tensor: a graph that was captured for one serves the other.

    Attributes:
        ids: int64[texts, length].
        starts: int64[texts]; the position of a text's first row, which is also how many of its keys lie in
            the cache. Its rows see these and its own.
        counts: int64[texts]; how many rows of a text are no padding.
        causal: whether a row sees its text's rows only up to itself; bool, or bool[texts].
        tables: int64[texts, pages]; the pages of each text. Keys and values of the rows are written behind
            those that are there; whether they stay is for whoever counts the text's tokens. None: the rows
            see themselves alone, nothing is written and `starts` are 0.
        types: int64[texts, length]; token types of encoders, 0 where there are none.
        cards: those of the texts.
        turns: int64[texts, length]; positions by which queries and keys are turned, where they are not those
            of the places that the rows take behind what was read.
    """

    ids: Tensor
    starts: Tensor
    counts: Tensor
    causal: Any
    tables: Tensor | None = None
    types: Tensor | None = None
    cards: Cards = NO_CARDS
    turns: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        """int64[texts, length]."""
        return self.starts[:, None] + torch.arange(self.ids.shape[1], device=self.ids.device)

    def bias(self, keys: int, dtype: Any, reach: int | None = None) -> Tensor:
        """[texts, 1, length or 1, keys]: 0 where a row may look, within `reach` if given, else -inf.

        Every row sees something, padding too: a softmax over nothing is not a number.
        """
        places = torch.arange(keys, device=self.ids.device)
        last = (self.starts + self.counts - 1).clamp_min(0)[:, None]
        if self.causal is True:
            last = self.positions
        elif self.causal is not False:
            last = torch.where(self.causal[:, None], self.positions, last)
        hidden = places > last[..., None]
        if reach is not None:
            distances = (places - self.positions[..., None]).abs()
            hidden = (hidden | (distances > reach)) & (distances > 0)
        return torch.zeros(hidden.shape, dtype=dtype, device=self.ids.device).masked_fill_(
            hidden, float("-inf")
        )[:, None]


class OwnView:
    """A pass whose rows see themselves alone."""

    def __init__(self, asked: Pass, angles: Angles, dtype: Any) -> None:
        self.angles, self.cards = angles, asked.cards
        # Padding stands behind its text, where causal rows do not look.
        self.is_causal = asked.causal is True
        self.bias = None if self.is_causal else asked.bias(asked.ids.shape[1], dtype)
        self._near = lru_cache(partial(asked.bias, asked.ids.shape[1], dtype))

    def near(self, reach: int) -> Tensor:
        """As `bias`, where a row sees nothing that is further away than `reach`."""
        return self._near(reach)

    def keys_and_values(self, _layer: int, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the rows."""
        k, v = kv.chunk(2, 2)
        return k, v


class CachedView:
    """A pass whose rows see their texts' keys in a cache, and add theirs."""

    def __init__(self, asked: Pass, angles: Angles, dtype: Any, cache: KvCache) -> None:
        self.angles, self.cards, self.is_causal, self._cache = angles, asked.cards, False, cache
        tables, positions = asked.tables, asked.positions
        assert tables is not None
        rows = torch.arange(PAGE_TOKENS, device=tables.device)
        self._keys = (tables[:, :, None] * PAGE_TOKENS + rows).flatten(1)
        self.bias = asked.bias(self._keys.shape[1], dtype)
        self._near = lru_cache(partial(asked.bias, self._keys.shape[1], dtype))
        # Padding is written to the first page, which belongs to no text.
        pages = tables.gather(1, (positions // PAGE_TOKENS).clamp_max(tables.shape[1] - 1))
        is_row = torch.arange(asked.ids.shape[1], device=tables.device) < asked.counts[:, None]
        self._writes = torch.where(is_row, pages * PAGE_TOKENS + positions % PAGE_TOKENS, 0).flatten()

    def near(self, reach: int) -> Tensor:
        """As `bias`, where a row sees nothing that is further away than `reach`."""
        return self._near(reach)

    def keys_and_values(self, layer: int, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the texts, with the rows' behind."""
        self._cache.write(layer, self._writes, kv)
        return self._cache.read(layer, self._keys, kv.dtype)
