"""What the system says about its processor and memory.

Every function takes the root of the file system, so that other machines can be described in tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["CpuInfo", "get_cpu_info", "memory_bytes", "read_text"]

ROOT = Path("/")


class CpuInfo(NamedTuple):
    """The processor as this process may use it.

    Attributes:
        name: as its maker calls it.
        vendor: "GenuineIntel", "AuthenticAMD", an Arm implementer, or "".
        logical_cores: hardware threads this process may run on.
        physical_cores: cores behind them.
        quota_cores: cores' worth of time a container grants, None without a limit.
    """

    name: str
    vendor: str
    logical_cores: int
    physical_cores: int
    quota_cores: float | None

    @property
    def usable_cores(self) -> int:
        """Threads of heavy arithmetic that do not get in each other's way, at least 1."""
        if self.quota_cores is None:
            return self.physical_cores
        return max(1, min(self.physical_cores, int(self.quota_cores + 0.5)))


def get_cpu_info(root: Path = ROOT, *, allowed: set[int] | None = None) -> CpuInfo:
    """Describe the processor.

    Args:
        root: where proc and sys are.
        allowed: logical cores this process may run on, by default what the scheduler says.
    """
    fields = _cpuinfo_fields(read_text(root / "proc/cpuinfo"))
    if allowed is None:
        allowed = _affinity()
    return CpuInfo(
        name=fields.get("model name") or fields.get("Model") or _name_of_platform(),
        vendor=fields.get("vendor_id") or fields.get("CPU implementer", ""),
        logical_cores=len(allowed),
        physical_cores=_physical_cores(root, allowed),
        quota_cores=_quota(root),
    )


def memory_bytes(root: Path = ROOT) -> tuple[int | None, int | None]:
    """(total, available) memory in bytes, a container's limit counted; None where unknown."""
    fields = {}
    for line in read_text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            fields[name] = int(number[0]) * 1024
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    if total is None:
        return _sysconf_memory() if root == ROOT else (None, None)
    limit = _first_int(root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory/memory.limit_in_bytes")
    if limit is not None and limit < total:
        total = limit
        available = limit if available is None else min(available, limit)
    return total, available


def read_text(file: Path) -> str:
    """Content of a small system file, "" if there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpuinfo_fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.partition(":")
        if found:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical_cores(root: Path, allowed: set[int]) -> int:
    """Groups of hardware threads that share a core; each thread alone where the system does not say."""
    cores = set()
    for cpu in allowed:
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        core = read_text(topology / "core_id").strip()
        package = read_text(topology / "physical_package_id").strip()
        cores.add((package, core) if core else (None, str(cpu)))
    return max(1, len(cores))


def _quota(root: Path) -> float | None:
    """Cores granted by cgroup version 2, then 1."""
    quota, _, period = read_text(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not quota:
        quota = read_text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
        period = read_text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _name_of_platform() -> str:
    import platform

    return platform.processor() or platform.machine()


def _first_int(*files: Path) -> int | None:
    for file in files:
        text = read_text(file).strip()
        if text.isdigit():
            return int(text)
    return None


def _sysconf_memory() -> tuple[int | None, int | None]:
    """Systems without proc."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (AttributeError, OSError, ValueError):
        return None, None
