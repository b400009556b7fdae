"""What a closed store is for other tools: a folder of Parquet that holds what the store holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage

GOLDEN = Path(__file__).parent.parent / "compat" / "store-v1"
FORMAT = Path(__file__).parent.parent.parent / "docs" / "formats" / "store.md"


def documented_query(store: Path) -> str:
    """The query in SQL that the description of the format gives."""
    (query,) = [part.split("```")[0] for part in FORMAT.read_text().split("```sql\n")[1:]]
    assert "'store/" in query
    return query.replace("'store/", f"'{store}/")


def in_duckdb(store: Path) -> list[str]:
    duckdb = pytest.importorskip("duckdb")
    return sorted(
        row[0] for row in duckdb.sql(f"select memory_id from ({documented_query(store)})").fetchall()
    )


def item(i: int) -> dict:
    embedding = np.random.default_rng(i).standard_normal(4)
    return {"memory_id": f"m{i:04d}", "content": f"secret number {i:04d}", "embedding": embedding}


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name != "LOCK")


def secrets_on_disk(store: Path) -> set[str]:
    """Contents that can be read from the files of a store."""
    pq = pytest.importorskip("pyarrow.parquet")
    found = set()
    for path in store.glob("seg-*.parquet"):
        found |= set(pq.read_table(path)["content"].to_pylist())
    rest = b"".join(path.read_bytes() for path in store.iterdir() if path.suffix != ".parquet")
    return found | {
        f"secret number {i:04d}" for i in range(1000) if f"secret number {i:04d}".encode() in rest
    }


def test_a_closed_store_is_parquet(tmp_path):
    with ArrowStorage(tmp_path) as store:
        for i in range(5):
            store.save(**item(i))
        assert not list(tmp_path.glob("seg-*"))
    assert in_duckdb(tmp_path) == [f"m{i:04d}" for i in range(5)]
    with ArrowStorage(tmp_path, read_only=True) as store:
        assert store.stats()["log_rows"] == 0
        assert store.count() == 5


def test_closing_what_did_not_change_writes_nothing(tmp_path):
    with ArrowStorage(tmp_path) as store:
        store.save_many(map(item, range(5)))

    def states():
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    before = states()
    with ArrowStorage(tmp_path) as store:
        assert store.count() == 5
    after = states()
    del before["LOCK"], after["LOCK"]
    assert after == before


def test_many_short_sessions_leave_few_files(tmp_path):
    for i in range(100):
        with ArrowStorage(tmp_path) as store:
            store.save(**item(i))
    assert len(names(tmp_path)) <= 24
    assert in_duckdb(tmp_path) == [f"m{i:04d}" for i in range(100)]


def test_duckdb_sees_no_forgotten_rows(tmp_path):
    with ArrowStorage(tmp_path) as store:
        store.save_many(map(item, range(1000)))
    with ArrowStorage(tmp_path) as store:
        store.delete_many(f"m{i:04d}" for i in range(0, 1000, 10))
        store.update("m0001", content="changed")
        expected = [memory["memory_id"] for memory in store]
    assert in_duckdb(tmp_path) == expected
    assert len(expected) == 900


def test_more_than_a_quarter_forgotten_is_gone_from_the_disk(tmp_path):
    with ArrowStorage(tmp_path) as store:
        store.save_many(map(item, range(1000)))
    with ArrowStorage(tmp_path) as store:
        store.delete_many(f"m{i:04d}" for i in range(600))
    assert secrets_on_disk(tmp_path) == {f"secret number {i:04d}" for i in range(600, 1000)}
    assert in_duckdb(tmp_path) == [f"m{i:04d}" for i in range(600, 1000)]


def test_compacting_leaves_nothing_of_what_is_gone(tmp_path):
    with ArrowStorage(tmp_path) as store:
        store.save_many(map(item, range(100)))
        store.flush()
        store.delete("m0007")
        store.update("m0008", content="changed")
        store.flush()
        assert "secret number 0007" in secrets_on_disk(tmp_path)
        store.compact()
        assert secrets_on_disk(tmp_path) == {
            "changed",
            *(f"secret number {i:04d}" for i in range(100) if i not in (7, 8)),
        }
        assert store.stats()["dead_rows"] == 0
    assert in_duckdb(tmp_path) == [f"m{i:04d}" for i in range(100) if i != 7]


def test_everything_may_be_forgotten(tmp_path):
    with ArrowStorage(tmp_path) as store:
        store.save_many(map(item, range(10)))
    with ArrowStorage(tmp_path) as store:
        store.delete_many(f"m{i:04d}" for i in range(10))
    assert not list(tmp_path.glob("seg-*"))
    with ArrowStorage(tmp_path) as store:
        assert store.count() == 0
        store.save(**item(3))
    assert in_duckdb(tmp_path) == ["m0003"]


def test_a_store_without_a_table_of_dead_rows_gets_one(tmp_path):
    path = tmp_path / "store"
    shutil.copytree(GOLDEN, path)
    with ArrowStorage(path) as store:
        assert store.stats()["dead_rows"] > 0
        expected = [memory["memory_id"] for memory in store]
        assert store.verify() == []
    assert in_duckdb(path) == expected
    with ArrowStorage(path) as store:
        assert [memory["memory_id"] for memory in store] == expected
        assert store.verify() == []
