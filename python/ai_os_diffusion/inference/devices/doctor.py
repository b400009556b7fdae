"""The state of this installation, for `aios doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_os_diffusion import __version__, _native
from ai_os_diffusion.inference.cuda_backend import device_limits, memory_info
from ai_os_diffusion.inference.device_utils import (
    get_best_device,
    get_cpu_features,
    get_device_info,
    torch_problem,
)
from ai_os_diffusion.inference.devices.device_probe import vulkan_drivers
from ai_os_diffusion.inference.intel_opt import intel_report
from ai_os_diffusion.models.local_models import list_models
from ai_os_diffusion.utils.cpu_info import ROOT, get_cpu_info, memory_bytes
from ai_os_diffusion.utils.errors import DeviceError, DiffusionError

if TYPE_CHECKING:
    from ai_os_diffusion.config import Config

__all__ = ["doctor_report"]

_OPTIONAL = {
    "huggingface-hub": "pull models of a hub",
    "torch": "compute on accelerators",
    "pypdfium2": "read PDF",
    "pyarrow": "exchange Arrow tables",
    "duckdb": "query the files",
    "polars": "query the files",
}


def doctor_report(config: Config | None = None, root: Path = ROOT) -> dict[str, Any]:
    """Describe the machine, the packages and the folders, and what to do about what is missing.

    Args:
        config: settings to judge, by default those of this process.
        root: where proc and sys are.

    Returns:
        A JSON-able report; `remedies` lists what keeps the package from its best, with what to do.
    """
    if config is None:
        from ai_os_diffusion.config import load_config

        config = load_config()
    remedies: list[str] = []
    devices = get_device_info(root)
    best = get_best_device(root)
    report = {
        "version": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "cpu": _cpu(root, remedies),
        "memory": dict(zip(("total_bytes", "available_bytes"), memory_bytes(root), strict=True)),
        "devices": [asdict(device) for device in devices],
        "vulkan": [str(file) for file in vulkan_drivers(root)],
        "device": {
            "used": best,
            "why": _why(best, [device.kind for device in devices[1:]], remedies),
            **_limits(best, remedies),
        },
        "packages": _packages(),
        "installers": [name for name in ("pip", "uv") if shutil.which(name)],
        "models": _models(config.models_dir, remedies),
        "store": _folder(config.storage.path, remedies),
    }
    return {**report, "remedies": remedies}


def _cpu(root: Path, remedies: list[str]) -> dict[str, Any]:
    info = get_cpu_info(root)
    intel = intel_report(root)
    try:
        isa = _native.active_isa()
    except DiffusionError as error:
        isa = "none"
        remedies.append(str(error))
    features = get_cpu_features()
    if platform.machine() in ("x86_64", "AMD64") and not features.get("avx2", False):
        remedies.append("this CPU has no AVX2: everything works, but slowly")
    return {
        "name": info.name,
        "vendor": info.vendor,
        "logical_cores": info.logical_cores,
        "physical_cores": info.physical_cores,
        "quota_cores": info.quota_cores,
        "threads": info.usable_cores,
        "features": features,
        "isa": isa,
        "vnni": intel.vnni,
        "amx": list(intel.amx),
    }


def _why(best: str, accelerators: list[str], remedies: list[str]) -> str:
    if best != "cpu":
        return f"torch can use the {best} device"
    if not accelerators:
        return "no accelerator was found; the native engine runs on the CPU"
    problem = torch_problem(accelerators[0])
    remedies.append(f"a {accelerators[0]} device is there, but {problem}")
    return f"a {accelerators[0]} device was found, but {problem}"


def _limits(best: str, remedies: list[str]) -> dict[str, Any]:
    """What the device in use can do, and its memory; None where only its own tools would say."""
    if best not in ("cuda", "rocm"):
        return {"limits": None, "memory": None}
    try:
        return {"limits": asdict(device_limits()), "memory": asdict(memory_info())}
    except (DeviceError, RuntimeError) as error:
        remedies.append(f"the {best} device does not answer: {error}")
        return {"limits": None, "memory": None}


def _packages() -> dict[str, dict[str, str | None]]:
    packages: dict[str, dict[str, str | None]] = {}
    for name, use in _OPTIONAL.items():
        try:
            version: str | None = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        packages[name] = {"version": version, "use": use}
    return packages


def _models(folder: Path, remedies: list[str]) -> dict[str, Any]:
    pulled = [
        {"name": model.name, "model_type": model.model_type, "size_bytes": model.size_bytes}
        for model in list_models(models_dir=folder)
    ]
    if not pulled:
        remedies.append("no model is pulled; run: aios pull minilm, then: aios pull smollm2")
    return {**_folder(folder, remedies), "pulled": pulled}


def _folder(folder: Path, remedies: list[str]) -> dict[str, Any]:
    """A folder that is not there yet is judged by the nearest one that is."""
    present = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path.cwd())
    writable = os.access(present, os.W_OK)
    if not writable:
        remedies.append(f"{folder} cannot be written; change its permissions, or choose another folder")
    return {
        "path": str(folder),
        "exists": folder.exists(),
        "writable": writable,
        "free_bytes": shutil.disk_usage(present).free,
    }
