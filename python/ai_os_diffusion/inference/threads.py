"""How many threads a forward pass should use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["physical_cores"]

_CPUS = Path("/sys/devices/system/cpu")


def physical_cores() -> int:
    """Cores this process may run on, hyperthreads of one core counted once; at least 1.

    Two hyperthreads share the units that multiply matrices, so the second adds nothing.
    """
    if not hasattr(os, "sched_getaffinity"):
        return max(1, os.cpu_count() or 1)
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        try:
            cores.add((_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            return max(1, len(allowed))
    return max(1, len(cores))
