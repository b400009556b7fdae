"""What every benchmark shares: interleaved timing, the machine's name, the last line.

Machines are shared and noisy: candidates run A B A B, and the figure is the median of each one's runs.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """The processor as the system calls it, with the features our kernels look for."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(named.get("flags", "").split())
    kept = [flag for flag in ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8") if flag in flags]
    return f"{named.get('model name', platform.machine())} ({' '.join(kept)}), {os.cpu_count()} cores"


def interleave(candidates: Mapping[str, Callable[[], Any]], repeats: int = 7) -> dict[str, float]:
    """Median seconds of each candidate, run in turn after one warm-up each."""
    for run in candidates.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def data_dir(*, as_argument: bool = True) -> Path:
    """The folder of evaluation data, from AIOS_DATA, or the first argument where that is its place."""
    given = sys.argv[1:2] if as_argument else []
    name = given[0] if given else os.environ.get("AIOS_DATA", "")
    folder = Path(name)
    if not name or not folder.is_dir():
        print(f"skipped: {Path(sys.argv[0]).name} needs evaluation data: set AIOS_DATA to its folder")
        print(json.dumps({"benchmark": Path(sys.argv[0]).stem, "skipped": "no AIOS_DATA"}))
        sys.exit(0)
    return folder


def reported(output: Path) -> dict[str, Any]:
    """The figures that an earlier run reported, from a file of its output."""
    figures: dict[str, Any] = json.loads(output.read_text(encoding="utf-8").rstrip().split("\n")[-1])
    return figures


def report(**figures: Any) -> None:
    """Print the figures, then all of them as one line of JSON."""
    figures = {"benchmark": Path(sys.argv[0]).stem, "cpu": cpu_name(), **figures}
    for name, value in figures.items():
        print(f"{name:>34}: {value}")
    print(json.dumps(figures))
