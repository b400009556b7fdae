"""Opening weights: time and memory of `load_weights()`, warm, nothing touched yet. Median of 15."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from ai_os_diffusion.inference import WeightLoader
from measure import report
from models import converted

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Memory of this process that is in RAM (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


def main() -> None:
    figures = {}
    for name in ("minilm", "smollm2"):
        folder = converted(name, None)
        WeightLoader(folder).load_weights()
        before = resident_bytes()
        weights = WeightLoader(folder).load_weights()
        grown = resident_bytes() - before
        taken = []
        for _ in range(15):
            start = time.perf_counter()
            weights = WeightLoader(folder).load_weights()
            taken.append(time.perf_counter() - start)
        figures[name] = {
            "tensors": len(weights),
            "load_ms": round(statistics.median(taken) * 1e3, 2),
            "resident_growth_mb": round(grown / 1e6, 2),
        }
    report(**figures)


if __name__ == "__main__":
    main()
