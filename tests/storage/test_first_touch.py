"""What a store makes when it is first asked is the same for every thread that asks first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage

THREADS = 8

TOUCHES = {
    "load": lambda store: store.load("m0100")["content"],
    "query": lambda store: [memory["memory_id"] for memory, _ in store.query(np.ones(8), 5)],
    "filter": lambda store: store.count({"even": True}),
    "iterate": lambda store: sum(1 for _ in store),
    "verify": lambda store: len(store.verify()),
    "snapshot": lambda store: store.snapshot().version,
}


@pytest.fixture(scope="module", params=["whole", "damaged"])
def folder(request, tmp_path_factory):
    """A store of one segment, whose vectors are to be made again when they are damaged."""
    path = tmp_path_factory.mktemp("touch")
    vectors = np.random.default_rng(0).standard_normal((4000, 8))
    with ArrowStorage(path) as store:
        store.save_many(
            {
                "memory_id": f"m{i:04d}",
                "content": f"text {i}",
                "embedding": row,
                "metadata": {"even": i % 2 == 0},
            }
            for i, row in enumerate(vectors)
        )
    if request.param == "damaged":
        (file,) = path.glob("seg-*.vec")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    return path


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES.keys())
def test_threads_that_come_first_see_the_same(folder, touch):
    with ArrowStorage(folder, read_only=True) as alone:
        expected = touch(alone)
    with ArrowStorage(folder, read_only=True) as store, ThreadPoolExecutor(THREADS) as pool:
        start = threading.Barrier(THREADS)

        def first(_: int) -> object:
            start.wait()
            return touch(store)

        assert list(pool.map(first, range(THREADS))) == [expected] * THREADS


def test_threads_that_write_first_decide_one_dimension(tmp_path):
    with ArrowStorage(tmp_path) as store, ThreadPoolExecutor(THREADS) as pool:
        start = threading.Barrier(THREADS)

        def first(number: int) -> bool:
            start.wait()
            try:
                store.add(f"m{number % 4}", "text", np.ones(2 + number % 2))
            except ValueError:
                return False
            except Exception as error:  # noqa: BLE001  # of two that add one id, one is told
                return "which is there" not in str(error)
            return True

        stored = list(pool.map(first, range(THREADS)))
        assert sum(stored) == store.count() == 2
        assert len({len(memory["embedding"]) for memory in store}) == 1
