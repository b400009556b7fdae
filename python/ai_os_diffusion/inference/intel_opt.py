"""What an Intel machine offers, and how many threads to give it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ai_os_diffusion.inference.device_utils import get_cpu_features
from ai_os_diffusion.inference.devices.device_probe import DeviceInfo, probe_accelerators
from ai_os_diffusion.utils.cpu_info import ROOT, get_cpu_info

__all__ = ["IntelReport", "intel_report", "recommended_threads"]


@dataclass(frozen=True)
class IntelReport:
    """Intel's accelerations on this machine.

    Attributes:
        is_intel: whether the processor is Intel's.
        vnni: integer dot products of 512 bits (AVX-512 VNNI) or 256 bits (AVX-VNNI).
        amx: tile matrix products: the number formats among "int8" and "bf16".
        threads: what `recommended_threads` says.
        gpus: Intel GPUs with the compute runtime.
    """

    is_intel: bool
    vnni: bool
    amx: tuple[str, ...]
    threads: int
    gpus: tuple[DeviceInfo, ...]


def intel_report(root: Path = ROOT, features: dict[str, bool] | None = None) -> IntelReport:
    """Describe the machine.

    Args:
        root: where proc and sys are.
        features: of the CPU, by default those of this one.
    """
    features = get_cpu_features() if features is None else features
    tiles = features.get("amx-tile", False)
    return IntelReport(
        is_intel=get_cpu_info(root).vendor == "GenuineIntel",
        vnni=features.get("avx512vnni", False) or features.get("avxvnni", False),
        amx=tuple(kind for kind in ("int8", "bf16") if tiles and features.get(f"amx-{kind}", False)),
        threads=recommended_threads(root),
        gpus=tuple(info for info in probe_accelerators(root) if info.kind == "xpu"),
    )


def recommended_threads(root: Path = ROOT) -> int:
    """One thread for each physical core this process may use.

    Two threads on one core share its vector units and its cache: arithmetic gains nothing.
    """
    return get_cpu_info(root).usable_cores
