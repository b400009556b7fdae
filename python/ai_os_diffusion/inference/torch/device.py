"""A torch device: opened, asked for its room, its faults named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from ai_os_diffusion.inference.cuda_backend import device_limits, empty_cache, memory_info, require_memory
from ai_os_diffusion.utils.errors import ConfigurationError, DeviceError

__all__ = ["DTYPES", "Device", "is_out_of_memory"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What a pass may compute in, by name."""

_SPARE = 0.9
"""The part of free memory that is given to keys and values; passes need some too."""


class Device:
    """One device, on which one pass runs at a time.

    Args:
        name: as torch calls it.
        dtype: one of `DTYPES`; None is bfloat16 on a CUDA or ROCm device that computes in it natively,
            float32 elsewhere.

    Raises:
        DeviceError: torch cannot use the device.
        ConfigurationError: there is no such dtype.
    """

    def __init__(self, name: str, dtype: str | None = None) -> None:
        try:
            self.torch = torch.device(name)
            torch.empty(1, device=self.torch)
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(
                f"torch {torch.__version__} cannot use device {name!r}: {error}; "
                "install a build of torch for it, or use device='cpu'"
            ) from error
        if dtype is not None and dtype not in DTYPES:
            raise ConfigurationError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
        self.dtype = DTYPES[dtype] if dtype is not None else self._native_dtype()
        self._lock = threading.RLock()

    @property
    def captures(self) -> bool:
        """Whether steps are captured as graphs, which saves launching their kernels one by one."""
        return bool(self.torch.type == "cuda")

    @property
    def precise(self) -> Any:
        """What probabilities are summed in: Metal knows no float64."""
        return torch.float32 if self.torch.type == "mps" else torch.float64

    def room(self) -> int | None:
        """Bytes that may be taken for keys and values; None where no interface tells how much others hold."""
        if self.torch.type != "cuda":
            return None
        info = memory_info(self._index)
        return int(_SPARE * (info.free_bytes + info.cached_bytes))

    def require(self, numbers: int, what: str) -> None:
        """Refuse what the device cannot hold, where it tells.

        Raises:
            DeviceError: it cannot.
        """
        if self.torch.type == "cuda":
            require_memory(numbers * self.dtype.itemsize, what, self._index)

    def rows(self, row_bytes: int) -> int:
        """Rows of a pass that reads whole texts: enough to be busy, few enough to fit."""
        room = self.room()
        return 4096 if room is None else max(1024, min(65_536, room // (4 * row_bytes)))

    @contextmanager
    def running(self, what: str) -> Iterator[None]:
        """One pass at a time, with its faults by their names.

        Raises:
            DeviceError: there was no memory for `what`. The device can be used as before.
        """
        with self._lock, torch.inference_mode(), self._current():
            try:
                yield
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                message = str(error).partition("\n")[0]
            else:
                return
        # Outside of the handler nothing holds the pass's tensors any more.
        if self.torch.type == "cuda":
            empty_cache()
        raise DeviceError(
            f"{self.torch}: no memory for {what}: {message}; give fewer or shorter texts at a time, end what "
            "else uses the device, or compute with device='cpu'"
        )

    def _current(self) -> Any:
        return torch.cuda.device(self._index) if self.torch.type == "cuda" else nullcontext()

    @property
    def _index(self) -> int:
        return int(self.torch.index or 0)

    def _native_dtype(self) -> Any:
        is_half = self.torch.type == "cuda" and device_limits(self._index).bfloat16
        return torch.bfloat16 if is_half else torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the system, had no memory."""
    text = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        "out of memory" in text or "allocate memory" in text
    )
