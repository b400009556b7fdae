"""Keys and values of texts, in pages of one block of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ai_os_diffusion.utils.errors import DeviceError

__all__ = ["PAGE_TOKENS", "KvCache"]

PAGE_TOKENS = 64
"""Positions of a page; what texts share are whole pages."""

_FEWEST_PAGES = 32

Tensor = Any


class KvCache:
    """Pages of keys and values of all layers, counted by how many texts and beginnings hold them.

    The memory of a layer is one tensor, [pages * 64, 2, kv_heads, head_dim]: the page of a position is a
    number in a table, so a captured graph reads and writes wherever a text's pages lie. The first page is of
    no text; what is computed for padding goes there. Memory is zero before it is used: a hidden key has no
    weight, but zero times infinity is not a number.

    A text is promised its pages when it begins; within what is promised `take` cannot fail.

    Args:
        layers: of the network.
        kv_heads: of a layer.
        head_dim: numbers of a key.
        device: where it lies.
        dtype: of the numbers.
        first_bytes: what is taken at first; it grows by doubling.
        room: the bytes it may take beside those it has, or None where nobody knows.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        *,
        device: Any,
        dtype: Any,
        first_bytes: int = 0,
        room: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._shape = (2, kv_heads, head_dim)
        self._device, self._dtype, self._room = device, dtype, room
        self._tensors: list[Tensor] = [self._zeros(1) for _ in range(layers)]
        self.page_bytes = layers * int(self._tensors[0].nbytes)
        self._first_pages = max(_FEWEST_PAGES, first_bytes // self.page_bytes)
        self._holders = [1]
        self._free: list[int] = []
        # A session may end in the middle of anything, where the collector finds it; its pages wait here.
        self._returned: deque[tuple[Sequence[int], int]] = deque()
        self._promised = 0
        self._dirty: set[int] = set()
        self.generation = 0
        """Counts how often the memory has moved: a graph holds its addresses."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all pages."""
        return len(self._holders) * self.page_bytes

    def promise(self, pages: int, kept: int = 0) -> None:
        """Make sure that a text can take `pages`, without dropping the `kept` pages of beginnings for it.

        Raises:
            DeviceError: the device has no room for them. Nothing has changed.
        """
        self._collect()
        needed = 1 + self._promised + pages
        if needed > len(self._holders):
            room = self._room()
            most = None if room is None else len(self._holders) + room // self.page_bytes
            if most is not None and needed > most:
                raise DeviceError(
                    f"{self._device}: keys and values of {pages * PAGE_TOKENS} tokens need "
                    f"{pages * self.page_bytes / 1e9:.2f} GB beside those of the texts in progress, "
                    f"free are {(room or 0) / 1e9:.2f}; close a session, or write fewer tokens"
                )
            wanted = max(needed + kept, 2 * len(self._holders), self._first_pages)
            self._grow(wanted if most is None else min(wanted, most))
        self._promised += pages

    def return_later(self, pages: Sequence[int], promised: int) -> None:
        """Let go of pages, and of a promise, from any thread at any moment."""
        self._returned.append((pages, promised))

    def take(self, drop: Callable[[], bool]) -> int:
        """A page that nobody else holds; `drop` lets go of what is kept for later texts, if any is."""
        self._collect()
        while not self._free:
            if not drop():
                raise DeviceError(f"{self._device}: no page is free; expected no more than was promised")
        page = self._free.pop()
        self._holders[page] = 1
        if page in self._dirty:
            self._dirty.remove(page)
            for tensor in self._tensors:
                self._rows(tensor, page).zero_()
        return page

    def hold(self, page: int) -> None:
        """Hold a page beside those who do."""
        self._holders[page] += 1

    def is_shared(self, page: int) -> bool:
        """Whether several hold it."""
        return self._holders[page] > 1

    def release(self, page: int) -> None:
        """Hold a page no longer."""
        self._holders[page] -= 1
        if not self._holders[page]:
            self._free.append(page)

    def copy(self, source: int, target: int) -> None:
        """Write one page's contents to another."""
        for tensor in self._tensors:
            self._rows(tensor, target).copy_(self._rows(tensor, source))

    def scrub(self, pages: Sequence[int]) -> None:
        """Zero pages before they are used again: something in them is not finite."""
        self._dirty.update(pages)
        for tensor in self._tensors:
            self._rows(tensor, 0).zero_()

    def write(self, layer: int, rows: Tensor, kv: Tensor) -> None:
        """Put keys and values, [texts, length, 2 * kv_heads, head_dim], to rows int64[texts * length]."""
        tensor = self._tensors[layer].flatten(1, 2)
        tensor.index_copy_(0, rows, kv.flatten(0, 1).to(tensor.dtype))

    def read(self, layer: int, rows: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
        """Keys and values, [texts, keys, kv_heads, head_dim], of rows int64[texts, keys] of memory."""
        found = self._tensors[layer].index_select(0, rows.flatten())
        k, v = found.to(dtype).unflatten(0, rows.shape).unbind(2)
        return k, v

    def _collect(self) -> None:
        while self._returned:
            pages, promised = self._returned.popleft()
            self._promised -= promised
            for page in pages:
                self.release(page)

    def _grow(self, pages: int) -> None:
        """Layer by layer, so that little is there twice."""
        before = len(self._holders)
        self.generation += 1
        for layer, old in enumerate(self._tensors):
            # After a failure some layers are larger than others, which hurts nobody: pages are counted last.
            if len(old) < pages * PAGE_TOKENS:
                new = self._zeros(pages)
                new[: len(old)] = old
                self._tensors[layer] = new
        self._holders += [0] * (pages - before)
        self._free += range(pages - 1, before - 1, -1)

    def _zeros(self, pages: int) -> Tensor:
        return torch.zeros((pages * PAGE_TOKENS, *self._shape), dtype=self._dtype, device=self._device)

    @staticmethod
    def _rows(tensor: Tensor, page: int) -> Tensor:
        return tensor[page * PAGE_TOKENS : (page + 1) * PAGE_TOKENS]
