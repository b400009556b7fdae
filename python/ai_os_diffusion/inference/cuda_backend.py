"""Memory and limits of CUDA and ROCm devices, through torch.

torch offers both under the name `cuda`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.inference.device_utils import resolve_device, torch_problem
from ai_os_diffusion.utils.errors import DeviceError

__all__ = [
    "DeviceLimits",
    "MemoryInfo",
    "device_limits",
    "empty_cache",
    "limit_memory",
    "memory_info",
    "require_memory",
    "set_memory_fraction",
]


@dataclass(frozen=True)
class MemoryInfo:
    """Memory of one device, in bytes.

    Attributes:
        total_bytes: of the device.
        free_bytes: not taken by any process, and within what this one may take.
        allocated_bytes: in tensors of this process.
        cached_bytes: kept by this process for later tensors; `empty_cache` gives it back.
    """

    total_bytes: int
    free_bytes: int
    allocated_bytes: int
    cached_bytes: int


@dataclass(frozen=True)
class DeviceLimits:
    """What one device can do.

    Attributes:
        name: as its maker calls it.
        capability: compute capability, such as (9, 0).
        multiprocessors: number of its processors.
        bfloat16: whether it computes in bfloat16 natively.
        platform: "cuda" or "rocm".
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    bfloat16: bool
    platform: str


def memory_info(device: int = 0) -> MemoryInfo:
    """Measure the memory of a device.

    Raises:
        DeviceError: there is no such device, or torch cannot use it.
    """
    torch = _torch(device)
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    # Older versions of torch know the limit and do not tell it.
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _device: 1.0)(device)
    allowed = max(0, int(fraction * total) - reserved)
    return MemoryInfo(total, min(free, allowed), allocated, reserved - allocated)


def device_limits(device: int = 0) -> DeviceLimits:
    """Describe a device.

    Raises:
        DeviceError: there is no such device, or torch cannot use it.
    """
    torch = _torch(device)
    properties = torch.cuda.get_device_properties(device)
    is_hip = torch.version.hip is not None
    return DeviceLimits(
        name=properties.name,
        capability=(properties.major, properties.minor),
        multiprocessors=properties.multi_processor_count,
        bfloat16=is_hip or properties.major >= 8,
        platform="rocm" if is_hip else "cuda",
    )


def require_memory(size_bytes: int, what: str, device: int = 0) -> None:
    """Refuse beforehand what a device cannot hold.

    Args:
        size_bytes: how much it takes.
        what: for the message, such as "the weights".
        device: number of the device.

    Raises:
        DeviceError: less is free, what this process keeps for later tensors counted.
    """
    info = memory_info(device)
    free = info.free_bytes + info.cached_bytes
    if size_bytes > free:
        raise DeviceError(
            f"device {device}: {what} need {size_bytes / 1e9:.1f} GB, free are {free / 1e9:.1f} of "
            f"{info.total_bytes / 1e9:.1f} GB; end what else uses the device, or compute with device='cpu'"
        )


def empty_cache() -> None:
    """Give memory kept for later tensors back to the device.

    Raises:
        DeviceError: torch cannot use any device.
    """
    _torch(0).cuda.empty_cache()


def limit_memory(device: str, fraction: float) -> None:
    """Limit this process to a part of the memory of the device that models are to run on, if it has its own.

    Args:
        device: as `resolve_device` takes it.
        fraction: of the total; 1 is all of it.

    Raises:
        DeviceError: the device is not there, or the fraction is out of range.
    """
    if fraction == 1:
        return
    kind, _, number = resolve_device(device).partition(":")
    if kind == "cuda":
        set_memory_fraction(fraction, int(number or 0))


def set_memory_fraction(fraction: float, device: int = 0) -> None:
    """Limit this process to a part of a device's memory.

    Args:
        fraction: of the total, above 0 and at most 1.
        device: number of the device.

    Raises:
        DeviceError: the fraction is out of range, there is no such device, or torch cannot use it.
    """
    if not 0 < fraction <= 1:
        raise DeviceError(f"memory fraction is {fraction}, expected a number above 0 and at most 1")
    _torch(device).cuda.set_per_process_memory_fraction(fraction, device)


def _torch(device: int) -> Any:
    problem = torch_problem("cuda")
    if problem is not None and torch_problem("rocm") is not None:
        raise DeviceError(f"no CUDA or ROCm device: {problem}")
    import torch

    count = torch.cuda.device_count()
    if not 0 <= device < count:
        raise DeviceError(f"device {device}: expected a number from 0 to {count - 1}")
    return torch
