"""Processes that torchrun began."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce

from ai_os_diffusion.training.processes import Processes

__all__ = ["Team"]

Tensor = Any


class Team(Processes):
    """Several processes, by accelerate: over NCCL on GPUs, over gloo on a CPU.

    Args:
        device: "cpu" or "cuda".

    Attributes:
        device: the one of this process.
    """

    def __init__(self, device: str) -> None:
        self._state = PartialState(cpu=device == "cpu")
        self.number, self.size = self._state.process_index, self._state.num_processes
        self.device: Any = self._state.device

    def agreed(self, value: bool) -> bool:
        """What the first says, in all of them."""
        return bool(broadcast(torch.tensor(float(value), device=self.device)).item())

    def wait(self) -> None:
        """Until all are here."""
        self._state.wait_for_everyone()

    def add_up(self, tensor: Tensor) -> None:
        """Put the sum of all processes' tensors in the place of each."""
        tensor.copy_(reduce(tensor, "sum"))
