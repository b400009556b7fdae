"""Reads PyTorch checkpoints, only through torch's loader that runs no code."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.source import SourceTensor
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError
from ai_os_diffusion.utils.files.bounded_zip import open_archive

__all__ = ["read_pytorch"]

_MAX_PICKLE_BYTES = 16 << 20
"""Of the names and shapes of the tensors: a hundred thousand."""


def read_pytorch(path: Path) -> list[SourceTensor]:
    """List the floating-point tensors of one checkpoint; torch maps the file, so they are read when used.

    Raises:
        ModelLoadError: torch is not installed.
        WeightError: the file is no checkpoint, or holds more than tensors.
    """
    _check_archive(path)
    try:
        import torch
    except ImportError as error:
        raise ModelLoadError(
            f"{path}: PyTorch checkpoints need torch to be read; install `ai-os-diffusion[gpu]`, "
            "or use the model's safetensors"
        ) from error
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


def _check_archive(path: Path) -> None:
    """Refuse what torch would unpack into memory: its files hold tensors as they are.

    Raises:
        WeightError: it is compressed, no archive (torch before 1.6 wrote pickles), or damaged.
    """
    with open_archive(path, "a checkpoint of torch 1.6 or later", WeightError) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise zipfile.BadZipFile(f"{entry.filename!r} is compressed")
            if entry.filename.endswith(".pkl") and entry.file_size > _MAX_PICKLE_BYTES:
                raise zipfile.BadZipFile(
                    f"{entry.filename!r} has {entry.file_size} bytes, expected at most {_MAX_PICKLE_BYTES}"
                )


def _read(tensor: Any) -> NDArray[Any]:
    import torch

    if tensor.dtype == torch.bfloat16:
        return np.ascontiguousarray(tensor.view(torch.int16).numpy()).view(np.uint16)
    values: NDArray[Any] = np.ascontiguousarray(tensor.numpy())
    return values.astype(np.float32, copy=False) if tensor.dtype == torch.float64 else values
