"""Which device to compute on.

The native engine runs on every CPU. Accelerators are used through torch, which is imported only when one
was asked for, or when one was found and torch is installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ai_os_diffusion import _native
from ai_os_diffusion.inference.devices.device_probe import DeviceInfo, probe_accelerators, vulkan_drivers
from ai_os_diffusion.utils.cpu_info import ROOT, get_cpu_info, memory_bytes
from ai_os_diffusion.utils.errors import DeviceError

__all__ = [
    "DEVICE_KINDS",
    "DeviceInfo",
    "get_best_device",
    "get_cpu_features",
    "get_device_info",
    "is_rocm_platform",
    "is_vulkan_available",
    "print_device_info",
    "resolve_device",
    "torch_problem",
]

DEVICE_KINDS = ("cpu", "cuda", "rocm", "xpu", "mps")

_INSTALL = {
    "cuda": "pip install torch",
    "rocm": "the ROCm build of torch, as pytorch.org/get-started says",
    "xpu": "the XPU build of torch, as pytorch.org/get-started says",
    "mps": "pip install torch",
}

_HARDWARE = {
    "cuda": "an NVIDIA GPU with its driver",
    "rocm": "an AMD GPU with the amdgpu driver",
    "xpu": "an Intel GPU with the Level Zero runtime (libze_loader.so.1)",
    "mps": "a Mac with Apple silicon",
}


def get_device_info(root: Path = ROOT) -> list[DeviceInfo]:
    """Every device found, the CPU first, then accelerators in order of preference.

    Args:
        root: where proc and sys are.
    """
    cpu = get_cpu_info(root)
    return [
        DeviceInfo("cpu", 0, cpu.name, memory_bytes(root)[0]),
        *probe_accelerators(root),
    ]


def get_best_device(root: Path = ROOT) -> str:
    """The kind of device computing is fastest on: an accelerator that torch can use, else "cpu"."""
    for device in probe_accelerators(root):
        if torch_problem(device.kind) is None:
            return device.kind
    return "cpu"


def resolve_device(device: str, root: Path = ROOT) -> str:
    """Turn what a user asked for into the name torch knows the device by; "cpu" is the native engine.

    Args:
        device: "auto", or a kind ("cpu", "cuda", "rocm", "xpu", "mps"), with or without an index
            ("cuda:1").
        root: where proc and sys are.

    Raises:
        DeviceError: it is not there or cannot be used; the message says what is there and what to install.
    """
    kind, colon, number = device.strip().lower().partition(":")
    if kind == "auto" and not colon:
        kind = get_best_device(root)
    if kind not in DEVICE_KINDS or (colon and not number.isdigit()):
        raise DeviceError(
            f"device {device!r}: expected auto, {', '.join(DEVICE_KINDS)}, or an index too, as in cuda:0"
        )
    if kind == "cpu":
        return "cpu"
    found = [info for info in probe_accelerators(root) if info.kind == kind]
    problem = torch_problem(kind)
    # A container may hide from the probe what torch can reach, so torch has the last word.
    if problem is not None and found:
        raise DeviceError(f"device {device!r}: found {found[0].name}, but {problem}")
    if problem is not None:
        others = ", ".join(f"{info.kind} ({info.name})" for info in get_device_info(root))
        raise DeviceError(f"device {device!r}: needs {_HARDWARE[kind]}; found: {others}; use one of these")
    if colon and found and int(number) >= len(found):
        raise DeviceError(f"device {device!r}: the last of its kind is {kind}:{len(found) - 1}")
    # torch calls AMD devices by the name of the interface they imitate.
    torch_kind = "cuda" if kind == "rocm" else kind
    return f"{torch_kind}:{number}" if colon else torch_kind


def torch_problem(kind: str) -> str | None:
    """Why torch cannot use devices of a kind, with the remedy; None if it can.

    Imports torch if it is installed.
    """
    if importlib.util.find_spec("torch") is None:
        return f"torch is not installed; install it: {_INSTALL[kind]}"
    try:
        import torch
    except (ImportError, OSError, RuntimeError, AttributeError, ValueError) as error:
        return (
            f"torch cannot be imported ({type(error).__name__}: {error}); install it again: {_INSTALL[kind]}"
        )
    if _torch_sees(torch, kind):
        return None
    return f"torch {torch.__version__} does not see it; install a build for it: {_INSTALL[kind]}"


def is_rocm_platform(root: Path = ROOT) -> bool:
    """Whether this machine computes on AMD GPUs: the kernel offers one, or ROCm is installed."""
    return any(info.kind == "rocm" for info in probe_accelerators(root)) or (root / "opt/rocm").is_dir()


def is_vulkan_available(root: Path = ROOT) -> bool:
    """Whether a Vulkan loader and at least one driver are installed."""
    return bool(vulkan_drivers(root))


def get_cpu_features() -> dict[str, bool]:
    """The CPU features that matter to the kernels, and whether this CPU has them."""
    return _native.cpu_features()


def print_device_info() -> None:
    """Print the devices found and which would be used: the one function of this package that prints."""
    best = get_best_device()
    for info in get_device_info():
        memory = f", {info.memory_bytes / 2**30:.1f} GiB" if info.memory_bytes else ""
        used = "  <- used" if info.kind == best and info.index == 0 else ""
        print(f"{info.kind}:{info.index}  {info.name}{memory}{used}")  # noqa: T201


def _torch_sees(torch: Any, kind: str) -> bool:
    try:
        if kind in ("cuda", "rocm"):
            is_hip = torch.version.hip is not None
            return bool(torch.cuda.is_available()) and is_hip == (kind == "rocm")
        if kind == "xpu":
            return hasattr(torch, "xpu") and bool(torch.xpu.is_available())
        return bool(torch.backends.mps.is_available())
    except (RuntimeError, AttributeError, OSError):
        return False
