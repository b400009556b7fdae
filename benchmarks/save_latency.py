"""How long a durable save takes while the store moves its log into segments and merges them.

`python benchmarks/save_latency.py [saves]`; by default 200,000 saves of 384 numbers, one commit each, then
more of them beside `compact`. The folder is made under TMPDIR, which should be on a real disk. Every
hundredth save is followed by a plain write and sync of the same length to a file of its own: what the disk
takes for that in the same moments is the floor.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.storage import ArrowStorage
from measure import report

DIMENSION = 384
FLOOR_EVERY = 100


def seconds(call: Callable[[], Any]) -> float:
    """Time of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


class Floor:
    """Writes and syncs within an allocated file."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._data = b"x" * size_bytes
        os.write(self._file, bytes(1 << 20))
        os.fsync(self._file)

    def __call__(self) -> None:
        """Write and sync once."""
        os.pwrite(self._file, self._data, 0)
        os.fdatasync(self._file)


def spread(taken: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    points = {"p50": 50, "p99": 99, "p99.9": 99.9, "p99.99": 99.99, "max": 100}
    return {name: round(float(np.percentile(taken, point)) * 1e3, 3) for name, point in points.items()}


def main(count: int) -> None:
    """Measure and report."""
    matrix = np.random.default_rng(0).standard_normal((1000, DIMENSION), dtype=np.float32)
    with tempfile.TemporaryDirectory() as name, ArrowStorage(Path(name) / "store") as store:
        floor = Floor(Path(name) / "floor", 4 * DIMENSION + 100)

        def save(i: int) -> float:
            return seconds(lambda: store.save(f"m{i:08d}", f"note {i}", matrix[i % 1000], {"n": i}))

        saves, floors = [], []
        for i in range(count):
            saves.append(save(i))
            if i % FLOOR_EVERY == 0:
                floors.append(seconds(floor))
        stats = store.stats()
        compaction: list[float] = []
        compacting = threading.Thread(target=lambda: compaction.append(seconds(store.compact)))
        compacting.start()
        beside = []
        while compacting.is_alive():
            beside.append(save(count + len(beside)))
        tenth = max(1, count // 10)
        report(
            saves=count,
            dimension=DIMENSION,
            save_ms=spread(saves),
            first_tenth_ms=spread(saves[:tenth]),
            last_tenth_ms=spread(saves[-tenth:]),
            write_and_sync_ms=spread(floors),
            segments=stats["segments"],
            compact_s=round(compaction[0], 2),
            saves_beside_compact=len(beside),
            save_beside_compact_ms=spread(beside),
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
