"""Accelerators found without loading a driver or torch.

A probe reads files the system already has and, for NVIDIA, asks `nvidia-smi`, which is given a few
seconds. It never raises: what cannot be read is not there.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_os_diffusion.utils.cpu_info import ROOT, read_text

__all__ = ["DeviceInfo", "find_library", "probe_accelerators", "vulkan_drivers"]

SMI_TIMEOUT_S = 5.0

_INTEL = "0x8086"

_LIBRARY_FOLDERS = (
    "usr/lib",
    "usr/lib64",
    "lib",
    "lib64",
    "usr/local/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/wsl/lib",
    "opt/rocm/lib",
)


@dataclass(frozen=True)
class DeviceInfo:
    """A device of this machine.

    Attributes:
        kind: "cpu", "cuda", "rocm", "xpu" or "mps".
        index: number among the devices of its kind.
        name: as its maker calls it.
        memory_bytes: of its own memory, or of the system's where it has none; None if unknown.
        driver: version of the driver, "" if unknown.
    """

    kind: str
    index: int
    name: str
    memory_bytes: int | None = None
    driver: str = ""


def probe_accelerators(root: Path = ROOT, *, smi: str | None = None) -> list[DeviceInfo]:
    """List the accelerators of this machine, in the order they are preferred.

    Args:
        root: where proc, sys and the libraries are.
        smi: path of `nvidia-smi`; by default the one on PATH, for the real root only.
    """
    if smi is None and root == ROOT:
        smi = shutil.which("nvidia-smi")
    return [*_nvidia(root, smi), *_amd(root), *_intel(root), *_apple(root)]


def find_library(name: str, root: Path = ROOT, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file of a shared library, such as "libvulkan.so.1", in the usual folders.

    Args:
        name: file name.
        root: where the folders are.
        environ: the environment, for LD_LIBRARY_PATH; by default this process's.
    """
    environ = os.environ if environ is None else environ
    listed = [Path(folder) for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    folders = [*listed, *(root / folder for folder in _LIBRARY_FOLDERS)]
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def vulkan_drivers(root: Path = ROOT, environ: Mapping[str, str] | None = None) -> list[Path]:
    """Manifests of the Vulkan drivers installed; empty without the loader library."""
    environ = os.environ if environ is None else environ
    if find_library("libvulkan.so.1", root, environ) is None:
        return []
    chosen = environ.get("VK_DRIVER_FILES") or environ.get("VK_ICD_FILENAMES")
    if chosen:
        return [Path(file) for file in chosen.split(":") if Path(file).is_file()]
    folders = ("usr/share/vulkan/icd.d", "etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d")
    return [file for folder in folders for file in sorted((root / folder).glob("*.json"))]


def _nvidia(root: Path, smi: str | None) -> list[DeviceInfo]:
    listed = _nvidia_smi(smi) if smi else []
    if listed:
        return listed
    driver = ""
    for word in read_text(root / "proc/driver/nvidia/version").split():
        if word[:1].isdigit() and "." in word:
            driver = word
            break
    devices = []
    for index, file in enumerate(sorted(root.glob("proc/driver/nvidia/gpus/*/information"))):
        lines = (line.partition(":") for line in read_text(file).splitlines())
        fields = {name.strip(): value.strip() for name, _, value in lines}
        devices.append(DeviceInfo("cuda", index, fields.get("Model", "NVIDIA GPU"), None, driver))
    return devices


def _nvidia_smi(smi: str) -> list[DeviceInfo]:
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            [smi, *query], capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
    devices = []
    for index, line in enumerate(said.strip().splitlines()):
        fields = [field.strip() for field in line.rsplit(",", 2)]
        if len(fields) == 3:
            memory = int(fields[1]) << 20 if fields[1].isdigit() else None
            devices.append(DeviceInfo("cuda", index, fields[0], memory, fields[2]))
    return devices


def _amd(root: Path) -> list[DeviceInfo]:
    """Compute nodes of the kernel's AMD driver; a node without SIMD units is a CPU."""
    devices: list[DeviceInfo] = []
    nodes = sorted(
        root.glob("sys/class/kfd/kfd/topology/nodes/*"),
        key=lambda node: int(node.name) if node.name.isdigit() else 0,
    )
    driver = read_text(root / "sys/module/amdgpu/version").strip()
    for node in nodes:
        pairs = (line.split() for line in read_text(node / "properties").splitlines())
        fields = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
        if int(fields.get("simd_count", "0")) == 0:
            continue
        name = read_text(node / "name").strip() or f"AMD GPU {fields.get('gfx_target_version', '')}".strip()
        devices.append(DeviceInfo("rocm", len(devices), name, _kfd_memory(node), driver))
    return devices


def _kfd_memory(node: Path) -> int | None:
    total = 0
    for bank in node.glob("mem_banks/*/properties"):
        for line in read_text(bank).splitlines():
            name, _, value = line.partition(" ")
            if name == "size_in_bytes" and value.strip().isdigit():
                total += int(value)
    return total or None


def _intel(root: Path) -> list[DeviceInfo]:
    """Intel GPUs whose compute runtime (Level Zero) is installed."""
    if find_library("libze_loader.so.1", root, {} if root != ROOT else None) is None:
        return []
    devices: list[DeviceInfo] = []
    for device in sorted(root.glob("sys/class/drm/card[0-9]*/device")):
        if "-" in device.parent.name or read_text(device / "vendor").strip() != _INTEL:
            continue
        product = read_text(device / "device").strip()
        devices.append(DeviceInfo("xpu", len(devices), f"Intel GPU {product}".strip()))
    return devices


def _apple(root: Path) -> list[DeviceInfo]:
    if root == ROOT and sys.platform == "darwin" and platform.machine() == "arm64":
        return [DeviceInfo("mps", 0, "Apple GPU")]
    return []
