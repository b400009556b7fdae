"""Stores of every released format open for ever, with the rows they were made with."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage

HERE = Path(__file__).parent
GOLDEN = sorted(path for path in HERE.glob("store-v*") if path.is_dir())


def expected():
    spec = importlib.util.spec_from_file_location("make_store", HERE / "make_store.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.expected()


def contents(store):
    return {m["memory_id"]: (m["content"], m["embedding"].tolist(), m["metadata"]) for m in store}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_a_golden_store_opens(golden, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(golden, path)
    with ArrowStorage(path, read_only=True, model="golden") as store:
        assert contents(store) == expected()
        assert store.verify() == []
        assert store.stats()["segments"] == 2
        assert store.stats()["dead_rows"] > 0
        assert store.stats()["log_rows"] > 0
        hits = store.query([1, 2, 3, 4, 5, 6], 1)
        assert hits[0][0]["memory_id"] == "memory-05"
    with ArrowStorage(path) as store:
        store.save("new", "text", [6, 5, 4, 3, 2, 1])
        store.compact()
        assert contents(store) == {**expected(), "new": ("text", [6, 5, 4, 3, 2, 1], {})}
        assert store.verify() == []


def test_there_is_a_golden_store():
    assert [path.name for path in GOLDEN] == ["store-v1", "store-v2", "store-v3", "store-v4"]


def test_the_golden_store_of_version_2_has_two_logs():
    assert len(list((HERE / "store-v2").glob("log-*"))) == 2
