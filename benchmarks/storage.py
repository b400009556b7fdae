"""The memory store: durable single inserts, bulk insert, exact search, beside NumPy and faiss.

`python benchmarks/storage.py [vectors]`; by default 100,000 random vectors of 384 dimensions. The folder is
made under TMPDIR, which should be on a real disk. The raw cost of a sync there is measured in the same run.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for the peers. More of OpenBLAS's would hold the cores of whoever comes next: they spin for
# 100 ms after each product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from ai_os_diffusion.storage import ArrowStorage
from measure import interleave, report

DIMENSION = 384
K = 10


def milliseconds(call: Callable[[int], Any], repeats: int) -> float:
    """Median time of a call."""
    taken = []
    for i in range(repeats):
        begun = time.perf_counter()
        call(i)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e3


def raw_sync(folder: Path) -> float:
    """Median milliseconds of a write and an fdatasync within an allocated file."""
    file = os.open(folder / "raw", os.O_RDWR | os.O_CREAT)
    os.write(file, bytes(4 << 20))
    os.fsync(file)

    def write(i: int) -> None:
        os.pwrite(file, b"x" * 2048, 2048 * i)
        os.fdatasync(file)

    taken = milliseconds(write, 300)
    os.close(file)
    return taken


def peers(matrix: np.ndarray) -> dict[str, Callable[[np.ndarray], Any]]:
    """Exact searches by others over unit vectors."""
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    def with_numpy(query: np.ndarray) -> Any:
        scores = unit @ query
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    found: dict[str, Callable[[np.ndarray], Any]] = {"numpy_1_thread": with_numpy}
    try:
        import faiss
    except ImportError:
        return found
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(unit)
    found["faiss_flat_1_thread"] = lambda query: index.search(query[None, :], K)
    return found


def search(store: ArrowStorage, matrix: np.ndarray) -> dict[str, float]:
    """Median milliseconds of an exact search, candidates in turn.

    Ours reads the memories it found, the others return row numbers; without hits it scans alike, reads none.
    """
    queries = np.random.default_rng(1).standard_normal((64, DIMENSION), dtype=np.float32)
    at = iter(range(10**9))

    def candidate(call: Callable[[np.ndarray], Any]) -> Callable[[], Any]:
        return lambda: call(queries[next(at) % len(queries)])

    ours = {f"aios_{n}_threads": (lambda query, n=n: store.query(query, K, num_threads=n)) for n in (1, 2)}
    ours |= {
        f"aios_{n}_threads_without_hits": (
            lambda query, n=n: store.query(query, K, min_similarity=1.1, num_threads=n)
        )
        for n in (1, 2)
    }
    candidates = {name: candidate(call) for name, call in (ours | peers(matrix)).items()}
    return {name: round(seconds * 1e3, 3) for name, seconds in interleave(candidates, 31).items()}


def main(count: int) -> None:
    """Measure and report."""
    matrix = np.random.default_rng(0).standard_normal((count, DIMENSION), dtype=np.float32)
    items = [
        {
            "memory_id": f"m{i:07d}",
            "content": f"passage {i} " * 20,
            "embedding": row,
            "metadata": {"part": i % 10},
        }
        for i, row in enumerate(matrix)
    ]
    figures: dict[str, Any] = {"vectors": count, "dimension": DIMENSION}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["raw_sync_ms"] = round(raw_sync(folder), 3)
        with ArrowStorage(folder / "single") as store:
            save = lambda i: store.save(f"m{i}", "x" * 500, matrix[i])  # noqa: E731
            figures["durable_insert_ms"] = round(milliseconds(save, 500), 3)
        small = min(20_000, count)
        with ArrowStorage(folder / "small") as store:
            store.save_many(items[:small])
            figures[f"search_{small}_ms"] = search(store, matrix[:small])
        with ArrowStorage(folder / "bulk") as store:
            begun = time.perf_counter()
            store.save_many(items)
            figures["bulk_insert_s"] = round(time.perf_counter() - begun, 2)
            figures[f"search_{count}_ms"] = search(store, matrix)
            part = {"part": 3}
            store.query(matrix[0], K, filter=part)
            filtered = lambda i: store.query(matrix[i], K, filter=part)  # noqa: E731
            figures["filtered_search_ms"] = round(milliseconds(filtered, 21), 3)
            figures["store_bytes"] = sum(file.stat().st_size for file in (folder / "bulk").iterdir())
        begun = time.perf_counter()
        with ArrowStorage(folder / "bulk") as store:
            store.load("m0000001")
            figures["open_and_load_ms"] = round((time.perf_counter() - begun) * 1e3, 2)
    report(**figures)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
