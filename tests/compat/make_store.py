"""Make the golden store of a format version: `python make_store.py FOLDER`. What it holds is in `expected`.

A golden store is made once, when its format is released, and only read after that.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError


def expected() -> dict[str, tuple[str, list[float], dict]]:
    """Content, embedding and metadata by id."""
    rng = np.random.default_rng(42)
    rows = {
        f"memory-{i:02d}": (
            f"Text number {i}: äöü, 漢字, 😀. " * (i % 3 + 1),
            rng.standard_normal(6).astype(np.float32).tolist(),
            {"i": i, "tags": ["a", "b"][: i % 3], "nested": {"x": None}},
        )
        for i in range(24)
    }
    for gone in ("memory-03", "memory-17"):
        del rows[gone]
    rows["memory-05"] = ("Replaced.", [1, 2, 3, 4, 5, 6], {"replaced": True})
    return rows


def main(folder: str) -> None:
    """Write the store: two segments, dead rows, and two logs with every kind of change."""
    rows = expected()
    rng = np.random.default_rng(42)
    vectors = [rng.standard_normal(6).astype(np.float32) for _ in range(24)]
    with tempfile.TemporaryDirectory() as name, ArrowStorage(name, model="golden") as store:

        def save(first: int, last: int) -> None:
            store.save_many(
                {
                    "memory_id": name,
                    "content": rows.get(name, ("gone",))[0] if name != "memory-05" else "old",
                    "embedding": vectors[i],
                    "metadata": rows.get(name, ("", [], {}))[2] if name != "memory-05" else {},
                }
                for i, name in ((i, f"memory-{i:02d}") for i in range(first, last))
            )

        save(0, 14)
        store.flush()
        save(14, 20)
        store.delete("memory-03")
        store.flush()
        save(20, 24)
        leave_a_frozen_log(store)
        content, embedding, metadata = rows["memory-05"]
        store.update("memory-05", content=content, embedding=embedding, metadata=metadata)
        store.delete("memory-17")
        # As a killed writer would leave it: closing would move the logs into a segment.
        shutil.copytree(name, folder, ignore=shutil.ignore_patterns("LOCK"))


def leave_a_frozen_log(store: ArrowStorage) -> None:
    """Have a flush fail once there is a second log: a folder lies where its segment would go."""
    numbers = (int(digits) for path in Path(store.path).iterdir() for digits in re.findall(r"\d+", path.name))
    # The log gets the next number, and the segment the one after that.
    obstacle = Path(store.path) / f"seg-{max(numbers) + 2:08}.parquet.draft"
    obstacle.mkdir()
    try:
        store.flush()
    except StorageError:
        obstacle.rmdir()
    else:
        raise AssertionError(f"{obstacle} was in nobody's way")


if __name__ == "__main__":
    main(sys.argv[1])
