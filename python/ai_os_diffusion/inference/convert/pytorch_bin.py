"""Reads PyTorch checkpoints, only through torch's loader that runs no code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.convert.source import SourceTensor
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError
from ai_os_diffusion.utils.regular_file import open_regular

__all__ = ["read_pytorch"]


def read_pytorch(path: Path) -> list[SourceTensor]:
    """List the floating-point tensors of one checkpoint; torch maps the file, so they are read when used.

    Raises:
        ModelLoadError: torch is not installed.
        WeightError: the file is no checkpoint, or holds more than tensors.
    """
    try:
        import torch
    except ImportError as error:
        raise ModelLoadError(
            f"{path}: PyTorch checkpoints need torch to be read; install `ai-os-diffusion[gpu]`, "
            "or use the model's safetensors"
        ) from error
    open_regular(path, None, WeightError).close()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise WeightError(f"{path}: not a checkpoint that loads without running code: {error}") from error
    names = {
        torch.float64: "float32",
        torch.float32: "float32",
        torch.float16: "float16",
        torch.bfloat16: "bfloat16",
    }
    if not isinstance(state, dict):
        raise WeightError(f"{path}: expected a checkpoint of named tensors, got {type(state).__name__}")
    return [
        SourceTensor(
            name, tuple(tensor.shape), names[tensor.dtype], partial(_read, tensor), str(tensor.dtype)
        )
        for name, tensor in state.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.dtype in names
    ]


def _read(tensor: Any) -> NDArray[Any]:
    import torch

    if tensor.dtype == torch.bfloat16:
        return np.ascontiguousarray(tensor.view(torch.int16).numpy()).view(np.uint16)
    values: NDArray[Any] = np.ascontiguousarray(tensor.numpy())
    return values.astype(np.float32, copy=False) if tensor.dtype == torch.float64 else values
