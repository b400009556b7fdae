import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError


def memory(memory_id, content="text", **fields):
    return {"memory_id": memory_id, "content": content, "embedding": np.ones(3, np.float32), **fields}


@pytest.fixture
def store(tmp_path):
    with ArrowStorage(tmp_path / "store") as opened:
        opened.save_many([memory("a", "old"), memory("b"), memory("c")])
        yield opened


def contents(store):
    return {found["memory_id"]: found["content"] for found in store}


def test_what_is_staged_comes_in_one_commit(store, tmp_path):
    store.flush()
    version = store.snapshot().version
    with store.staging() as staging:
        staging.save_many([memory("a", "new"), memory("d")])
        staging.save_many([memory("e"), memory("d", "again")])
        assert [found and found["content"] for found in staging.load_many("ade")] == ["new", "again", "text"]
        assert staging.load_many(["b"]) == [None]
        assert contents(store) == {"a": "old", "b": "text", "c": "text"}
        staging.commit(in_place_of=["b", "e", "nobody"])
        assert contents(store) == {"a": "new", "c": "text", "d": "again"}
    assert store.snapshot().version == version + 1
    assert not (tmp_path / "store" / "staging").exists()
    store.close()
    with ArrowStorage(tmp_path / "store", read_only=True) as again:
        assert contents(again) == {"a": "new", "c": "text", "d": "again"}
        assert again.verify() == []


def test_many_staged_segments_move_in_as_they_are(store):
    with store.staging() as staging:
        for batch in range(12):
            rows = range(batch * 500, batch * 500 + 500)
            staging.save_many(memory(f"{row:05}", "a text " * 500) for row in rows)
        staging.commit(in_place_of=["a", "b", "c"])
    assert store.count() == 6000
    assert store.stats()["dead_rows"] == 0
    assert store.load("03210")["content"] == "a text " * 500
    assert len(store.query_by_similarity([1, 1, 1], 6000)) == 6000
    store.save("later", "text", [1, 0, 0])
    store.compact()
    assert (store.count(), store.verify()) == (6001, [])


def test_a_staged_memory_keeps_the_time_it_was_made(store):
    made = store.load("a")["created_at"]
    with store.staging() as staging:
        staging.save_many([memory("a", "new", created_at=made), memory("d")])
        staging.commit()
    assert store.load("a")["created_at"] == pytest.approx(made, abs=1e-6)
    assert store.load("d")["created_at"] > made


def test_what_is_not_committed_is_nowhere(store, tmp_path):
    with store.staging() as staging:
        staging.save_many([memory("a", "new")])
    assert contents(store)["a"] == "old"
    left = tmp_path / "store" / "staging"
    left.mkdir()
    (left / "seg-00000001.parquet").write_bytes(b"left by a crash")
    store.close()
    with ArrowStorage(tmp_path / "store", read_only=True):
        assert left.exists()
    with ArrowStorage(tmp_path / "store"):
        assert not left.exists()


def test_refusals_name_what_does_not_fit_and_why(store):
    refused = dict(
        store.refusals(
            [
                memory("fits"),
                memory(""),
                memory("x" * 2000),
                {**memory("w"), "embedding": np.ones(4, np.float32)},
                {**memory("n"), "embedding": np.full(3, np.nan, np.float32)},
                memory("m", metadata={"big": "x" * 2_000_000}),
                memory("s", "\ud800"),
                memory("also fits"),
            ]
        )
    )
    assert sorted(refused) == [1, 2, 3, 4, 5, 6]
    assert "1048576" in refused[5]
    with pytest.raises(StorageError):
        store.save_many([memory("")])


def test_several_memories_are_read_at_once_in_the_order_asked(store):
    store.flush()
    store.save("fresh", "text", [1, 0, 0])
    found = store.load_many(["fresh", "c", "nobody", "a", "c"])
    assert [memory and memory["memory_id"] for memory in found] == ["fresh", "c", None, "a", "c"]


def test_metadata_is_read_alone(store):
    store.flush()
    store.save("fresh", "text", [1, 0, 0], {"k": 1})
    assert list(store.iter_metadata()) == [("a", {}), ("b", {}), ("c", {}), ("fresh", {"k": 1})]
    assert list(store.iter_metadata({"k": 1})) == [("fresh", {"k": 1})]
