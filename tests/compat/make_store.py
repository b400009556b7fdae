"""Make the golden store of a format version: `python make_store.py FOLDER`. What it holds is in `expected`.

A golden store is made once, when its format is released, and only read after that.
"""

from __future__ import annotations

import sys

import numpy as np

from ai_os_diffusion.storage import ArrowStorage


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
    """Write the store: two segments, dead rows, and a log with every kind of change."""
    rows = expected()
    rng = np.random.default_rng(42)
    vectors = [rng.standard_normal(6).astype(np.float32) for _ in range(24)]
    with ArrowStorage(folder, model="golden") as store:

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
        content, embedding, metadata = rows["memory-05"]
        store.update("memory-05", content=content, embedding=embedding, metadata=metadata)
        store.delete("memory-17")


if __name__ == "__main__":
    main(sys.argv[1])
