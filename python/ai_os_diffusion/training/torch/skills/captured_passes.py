"""Passes of a GPU as graphs: one launch each, however many kernels they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["CapturedPasses"]

Tensor = Any

_MOST = 48
"""Graphs that are kept; what comes in ever other shapes beyond is launched kernel by kernel."""


class CapturedPasses:
    """A function of tensors on a GPU whose calls of one shape are the same kernels in the same order.

    The first call of a shape is computed as it is, which also has libraries make their plans; the second is
    captured (CUDA graphs), and from then on replayed on other numbers. On a CPU it is called as it is.

    Args:
        function: of tensors, to a tensor. It waits for nothing, looks at no number, and writes only what
            stays where it is.
        device: of the tensors.
    """

    def __init__(self, function: Callable[..., Tensor], device: Any) -> None:
        self._function, self._is_captured = function, device.type == "cuda"
        self._graphs: dict[Any, tuple[Any, list[Tensor], Tensor] | None] = {}
        # Graphs are replayed one behind the other, so that all may use the same memory.
        self._pool = torch.cuda.graph_pool_handle() if self._is_captured else None

    def __call__(self, *given: Tensor) -> Tensor:
        """The function's result, which is the caller's."""
        if not self._is_captured:
            return self._function(*given)
        shape = tuple((tensor.shape, tensor.dtype) for tensor in given)
        if shape not in self._graphs:
            if len(self._graphs) < _MOST:
                self._graphs[shape] = None
            return self._function(*given)
        captured = self._graphs[shape] = self._graphs[shape] or self._capture(given)
        graph, own, result = captured
        for place, tensor in zip(own, given, strict=True):
            place.copy_(tensor)
        graph.replay()
        return result.clone()

    def _capture(self, given: tuple[Tensor, ...]) -> tuple[Any, list[Tensor], Tensor]:
        """A graph, where it reads what it is given, and where it leaves its result."""
        own = [tensor.clone() for tensor in given]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = self._function(*own)
        return graph, own, result
