"""Steps of a small model, which a GPU would wait for kernel by kernel, as one launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = ["CapturedStep"]

Tensor = Any
Batches = Sequence[Mapping[str, Tensor]]

_EAGER = 12
"""Steps before the graph: kernels are compiled and chosen in them, and the optimizer makes its state."""


class CapturedStep:
    """A step whose every call is the same kernels in the same order on other numbers (CUDA graphs).

    Args:
        step: of batches on the device to the loss: gradients and what is done by them too. It waits for
            nothing, looks at no number on the host, leaves no gradients, and its batches are of one shape.
    """

    def __init__(self, step: Callable[[Batches], Tensor]) -> None:
        self._step, self._side = step, torch.cuda.Stream()
        self._before = _EAGER
        self._graph: Any = None
        self._given: list[dict[str, Tensor]] = []
        self._loss: Tensor = None

    def __call__(self, batches: Batches) -> Tensor:
        """The loss, which is the caller's."""
        if self._graph is None and self._before:
            return self._beside(batches)
        if self._graph is None:
            self._capture(batches)
        for own, batch in zip(self._given, batches, strict=True):
            for name, value in batch.items():
                own[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._loss.clone()

    def _beside(self, batches: Batches) -> Tensor:
        """Kernel by kernel, on a stream of its own as graphs need what stands in them to be begun."""
        self._before -= 1
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            loss = self._step(batches)
        torch.cuda.current_stream().wait_stream(self._side)
        return loss

    def _capture(self, batches: Batches) -> None:
        self._given = [{name: value.clone() for name, value in batch.items()} for batch in batches]
        graph = torch.cuda.CUDAGraph()
        # Threads that bring batches may meanwhile do what a graph may not.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._loss = self._step(self._given)
        self._graph = graph
