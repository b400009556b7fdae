"""What a store promises to the one who calls it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import DimensionError, StorageError


@pytest.fixture
def store(tmp_path):
    with ArrowStorage(tmp_path / "store") as store:
        yield store


def items(count: int, dimension: int = 4, start: int = 0) -> list[dict]:
    rng = np.random.default_rng(start)
    return [
        {
            "memory_id": f"m{i:04d}",
            "content": f"text {i}",
            "embedding": rng.standard_normal(dimension).astype(np.float32),
            "metadata": {"n": i, "even": i % 2 == 0},
        }
        for i in range(start, start + count)
    ]


def test_the_published_lines_run_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    from ai_os_diffusion.storage import ArrowStorage

    storage = ArrowStorage()
    storage.save("mem_001", "Hello world", [0.1, 0.2, 0.3])
    memory = storage.load("mem_001")
    results = storage.query_by_similarity([0.1, 0.2, 0.3], top_k=5)
    storage.close()
    assert memory is not None
    assert memory["memory_id"] == "mem_001"
    assert memory["content"] == "Hello world"
    assert memory["metadata"] == {}
    assert memory["embedding"].tolist() == np.float32([0.1, 0.2, 0.3]).tolist()
    ((hit, similarity),) = results
    assert hit["memory_id"] == "mem_001"
    assert similarity == pytest.approx(1.0, abs=1e-6)
    assert tmp_path in Path(storage.path).parents


@pytest.mark.parametrize("flushed", [False, True])
def test_save_replaces_and_keeps_the_time_of_creation(store, flushed):
    store.save("a", "first", [1, 2], metadata={"v": 1})
    if flushed:
        store.flush()
    before = store.load("a")
    store.save("a", "second", [2, 1], metadata={"w": 2})
    after = store.load("a")
    assert (after["content"], after["metadata"], after["embedding"].tolist()) == ("second", {"w": 2}, [2, 1])
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] >= before["updated_at"]
    assert store.count() == 1


@pytest.mark.parametrize("flushed", [False, True])
def test_update_replaces_the_given_parts(store, flushed):
    store.save("a", "text", [1, 2], metadata={"v": 1})
    if flushed:
        store.flush()
    assert store.update("a", metadata={"v": 2})
    assert store.update("a", content="other")
    assert store.update("a", embedding=[5, 5])
    memory = store.load("a")
    assert (memory["content"], memory["metadata"], memory["embedding"].tolist()) == (
        "other",
        {"v": 2},
        [5, 5],
    )
    assert not store.update("b", content="nobody")
    with pytest.raises(DimensionError):
        store.update("a", embedding=[1, 2, 3])


@pytest.mark.parametrize("flushed", [False, True])
def test_delete(store, flushed):
    store.save_many(items(10))
    if flushed:
        store.flush()
    assert store.delete("m0003")
    assert not store.delete("m0003")
    assert store.load("m0003") is None
    assert store.delete_many(["m0000", "m0001", "m0001", "nobody"]) == 2
    assert store.delete_where({"n": {"$gte": 8}}) == 2
    assert [memory["memory_id"] for memory in store] == ["m0002", "m0004", "m0005", "m0006", "m0007"]
    assert store.count() == 5
    with pytest.raises(StorageError, match="a condition that some memory could fail"):
        store.delete_where({})


def test_query_is_exact_across_log_and_segments(store):
    every = items(60, dimension=7)
    store.save_many(every[:30])
    store.flush()
    store.save_many(every[20:50])
    store.flush()
    store.save_many(every[50:])
    store.delete("m0005")
    every = [item for item in every if item["memory_id"] != "m0005"]
    matrix = np.stack([item["embedding"] for item in every]).astype(np.float64)
    query = np.random.default_rng(9).standard_normal(7)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    truth = {
        "cosine": unit @ (query / np.linalg.norm(query)),
        "dot": matrix @ query,
        "euclidean": -np.linalg.norm(matrix - query, axis=1),
    }
    for metric, scores in truth.items():
        hits = store.query(query, 8, metric=metric)
        best = np.argsort(-scores, kind="stable")[:8]
        assert [memory["memory_id"] for memory, _ in hits] == [every[i]["memory_id"] for i in best]
        assert [similarity for _, similarity in hits] == pytest.approx(scores[best], abs=1e-5)
        evens = store.query(query, 100, metric=metric, filter={"even": True})
        assert [m["memory_id"] for m, _ in evens] == [
            every[i]["memory_id"] for i in np.argsort(-scores, kind="stable") if every[i]["metadata"]["even"]
        ]
    floor = float(np.sort(truth["cosine"])[-3])
    assert len(store.query(query, 50, min_similarity=floor - 1e-6)) == 3
    many = store.query_many(matrix[:5], 3)
    assert many[2][0][0]["memory_id"] == "m0002"
    assert [[m["memory_id"] for m, _ in hits] for hits in many] == [
        [m["memory_id"] for m, _ in store.query(row, 3)] for row in matrix[:5]
    ]


def test_equal_similarities_come_in_the_order_of_ids(store):
    for name in ("d", "b"):
        store.save(name, name, [1, 2, 3])
    store.flush()
    for name in ("c", "a"):
        store.save(name, name, [2, 4, 6])
    assert [memory["memory_id"] for memory, _ in store.query([1, 2, 3], 3)] == ["a", "b", "c"]


def test_an_empty_store_answers(store):
    assert store.load("a") is None
    assert store.query([1, 2, 3]) == []
    assert store.count() == 0
    assert list(store) == []
    assert store.dimension is None
    assert store.verify() == []


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        ([1, 2], DimensionError, "has 2 dimensions; the store holds vectors of 3"),
        ([0, 0, 0], DimensionError, "all zeros"),
        ([1, float("nan"), 2], DimensionError, "NaN at position 1"),
        ([1, float("inf"), 2], DimensionError, "inf at position 1"),
        ([1e300, 1, 2], DimensionError, "inf at position 0"),
        ([1e30, 1, 2], DimensionError, "has length 1.000e30"),
        ([], DimensionError, "0 dimensions|numbers"),
        ([[1, 2, 3]], DimensionError, "one vector"),
        (["a", "b", "c"], DimensionError, "expected numbers"),
        (None, DimensionError, "expected numbers"),
    ],
)
def test_a_bad_vector_leaves_nothing_written(store, vector, error, message):
    store.save("good", "text", [1, 2, 3])
    before = store.stats()
    with pytest.raises(error, match=message):
        store.save("bad", "text", vector)
    with pytest.raises(error):
        store.save_many(
            [
                {"memory_id": "x", "content": "", "embedding": [3, 2, 1]},
                {"memory_id": "bad", "content": "", "embedding": vector},
            ]
        )
    with pytest.raises(error):
        store.update("good", embedding=vector if vector is not None else [None])
    with pytest.raises(error):
        store.query(vector)
    assert store.stats() == before
    assert [memory["memory_id"] for memory in store] == ["good"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "text"), "memory_id.*not empty"),
        (("x" * 1025, "text"), "at most 1024 bytes"),
        ((7, "text"), "memory_id.*expected a text, got int"),
        (("a", b"bytes"), "content of 'a'.*expected a text, got bytes"),
        (("a", "\ud800"), "UTF-8"),
        (("a", "text", [1, 2], {"n": float("nan")}), "metadata of 'a'"),
        (("a", "text", [1, 2], {1: 2}), "names that are texts"),
        (("a", "text", [1, 2], [1]), "expected a mapping"),
        (("a", "text", [1, 2], {"n": object()}), "JSON"),
        (("a", "text", [1, 2], {"n": "x" * (1 << 20)}), "at most 1048576 bytes"),
    ],
)
def test_a_bad_argument_is_named(store, arguments, message):
    memory_id, content, *rest = arguments
    with pytest.raises(StorageError, match=message):
        store.save(memory_id, content, *(rest or [[1, 2]]))
    assert store.count() == 0


def test_oversize_content_is_refused(store):
    with pytest.raises(StorageError, match="at most 67108864 bytes"):
        store.save("a", "x" * ((64 << 20) + 1), [1, 2])


def test_save_many_says_what_is_wrong(store):
    good = {"memory_id": "a", "content": "", "embedding": [1, 2]}
    for bad, message in [
        ([good, 3], "expected a dict at 1"),
        ([{"memory_id": "a", "content": ""}], "the dict at 0 lacks embedding"),
        ([{**good, "colour": 1}], "unknown fields colour"),
        (good, "expected a list of dicts"),
        (5, "expected a list of dicts"),
    ]:
        with pytest.raises(StorageError, match=message):
            store.save_many(bad)
    with pytest.raises(DimensionError, match="the embedding of 'b' has 3"):
        store.save_many([good, {**good, "memory_id": "b", "embedding": [1, 2, 3]}])
    assert store.count() == 0
    assert store.save_many([]) == 0
    assert store.save_many([good, {**good, "content": "last"}]) == 2
    assert [memory["content"] for memory in store] == ["last"]


@pytest.mark.parametrize("count", [3, 5000])  # in the log, and straight into a segment
def test_memories_take_the_place_of_others_in_one_commit(store, count):
    store.save_many(items(20, dimension=256))
    store.flush()
    store.save_many(items(5, dimension=256, start=20))
    born = store.load("m0005")["created_at"]
    before = store.stats()["commits"]
    gone = [f"m{i:04d}" for i in range(5, 25)]
    assert store.save_many(items(count, dimension=256, start=5), in_place_of=[*gone, "nobody"]) == count
    assert store.stats()["commits"] == before + 1
    assert [memory["memory_id"] for memory in store] == [f"m{i:04d}" for i in range(5 + count)]
    assert store.load("m0005")["created_at"] == born
    store.save_many([], in_place_of=["m0000"])
    assert store.count() == 4 + count
    with pytest.raises(StorageError, match="memory_id"):
        store.save_many(items(1, dimension=256, start=30), in_place_of=[7])
    with pytest.raises(DimensionError):
        store.save_many(items(1, dimension=3), in_place_of=["m0001"])
    assert store.count() == 4 + count


def test_a_large_save_many_goes_into_a_segment_at_once(store):
    store.save("m0001", "old", np.ones(256))
    created = store.load("m0001")["created_at"]
    assert store.save_many(items(5000, dimension=256)) == 5000
    stats = store.stats()
    assert (stats["count"], stats["segments"], stats["log_rows"], stats["commits"]) == (5000, 1, 0, 2)
    assert store.load("m0001")["created_at"] == created
    assert store.load("m4999")["metadata"] == {"n": 4999, "even": False}


def test_a_snapshot_stays_as_it_was(store):
    store.save_many(items(5))
    view = store.snapshot()
    store.delete("m0000")
    store.save("new", "text", [1, 2, 3, 4])
    store.compact()
    assert [memory["memory_id"] for memory in view] == [f"m{i:04d}" for i in range(5)]
    assert view.count() == 5
    assert view.load("m0000")["content"] == "text 0"
    assert len(view.query([1, 2, 3, 4], 10)) == 5
    assert view.version < store.snapshot().version


def test_stats_and_compaction(store):
    for start in range(0, 40, 10):
        store.save_many(items(10, start=start))
        store.flush()
    store.delete_many([f"m{i:04d}" for i in range(15)])
    assert store.count() == 25
    store.compact()
    stats = store.stats()
    assert (stats["count"], stats["segments"], stats["dead_rows"], stats["log_rows"]) == (25, 1, 0, 0)
    assert stats["table_bytes"] > 0
    assert stats["format_version"] == 4
    assert store.verify() == []
    names = sorted(path.name.split("-")[0] + path.suffix for path in Path(store.path).iterdir())
    assert names == ["LOCK", "MANIFEST", "dead", "dead.parquet", "log", "seg.fts", "seg.parquet", "seg.vec"]


def test_many_small_flushes_leave_few_segments(store):
    for i in range(64):
        store.save(f"m{i}", "text", [1, i])
        store.flush()
    assert store.stats()["segments"] <= 7
    assert store.count() == 64


def test_the_store_remembers_its_model(tmp_path):
    with ArrowStorage(tmp_path, model="minilm@1") as store:
        store.save("a", "text", [1, 2])
        assert store.stats()["model"] == "minilm@1"
    with ArrowStorage(tmp_path) as store:
        assert store.stats()["model"] == "minilm@1"
    with pytest.raises(StorageError, match=r'"minilm@1", not of "bge@2".*embed its texts again'):
        ArrowStorage(tmp_path, model="bge@2")
    with ArrowStorage(tmp_path, model="minilm@1", read_only=True) as store:
        assert store.count() == 1


def test_the_dimension_can_be_declared(tmp_path):
    with ArrowStorage(tmp_path, dimension=3) as store:
        assert store.dimension == 3
        with pytest.raises(DimensionError):
            store.save("a", "text", [1, 2])
    with pytest.raises(DimensionError, match="asked for has 4"):
        ArrowStorage(tmp_path, dimension=4)
    with pytest.raises(StorageError, match="dimension"):
        ArrowStorage(tmp_path / "other", dimension=0)


def test_reading_only(tmp_path):
    with pytest.raises(StorageError, match="no memory store"):
        ArrowStorage(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()
    with ArrowStorage(tmp_path / "s") as store:
        store.save("a", "text", [1, 2])
    with ArrowStorage(tmp_path / "s", read_only=True) as reader:
        assert reader.load("a")["content"] == "text"
        for write in (
            lambda: reader.save("b", "", [1, 2]),
            lambda: reader.delete("a"),
            lambda: reader.update("a", content=""),
            reader.compact,
            reader.flush,
        ):
            with pytest.raises(StorageError, match="read_only=True"):
                write()


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"other files \(thesis.txt\)"):
        ArrowStorage(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(StorageError, match="cannot create"):
        ArrowStorage(tmp_path / "thesis.txt")


def test_a_closed_store_says_so(tmp_path):
    store = ArrowStorage(tmp_path)
    store.close()
    store.close()
    for call in (lambda: store.load("a"), lambda: store.save("a", "", [1]), store.count, store.stats):
        with pytest.raises(StorageError, match="is closed"):
            call()


def test_options_are_checked(tmp_path):
    for options, message in [
        ({"durability": "maybe"}, "durability: expected one of commit, batch, none"),
        ({"lock_timeout_s": -1}, "lock_timeout_s"),
        ({"skip_damaged": True}, "read_only=True"),
    ]:
        with pytest.raises(StorageError, match=message):
            ArrowStorage(tmp_path / "s", **options)
    with ArrowStorage(tmp_path / "s") as store:
        store.save("a", "", [1, 2])
        with pytest.raises(StorageError, match="metric: expected one of cosine, dot, euclidean"):
            store.query([1, 2], metric="manhattan")
        with pytest.raises(StorageError, match=r"unknown operator \$near"):
            store.query([1, 2], filter={"a": {"$near": 3}})
        with pytest.raises(StorageError, match="top_k"):
            store.query([1, 2], -1)


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
def test_every_durability_keeps_what_was_closed(tmp_path, durability):
    with ArrowStorage(tmp_path, durability=durability) as store:
        for item in items(20):
            store.save(item["memory_id"], item["content"], item["embedding"])
    with ArrowStorage(tmp_path, durability=durability) as store:
        assert store.count() == 20
        store.save("more", "text", [1, 2, 3, 4])
    with ArrowStorage(tmp_path, read_only=True) as store:
        assert store.count() == 21


def test_threads_share_a_store(store):
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for i in range(40):
                store.save(f"{worker}-{i}", "text", [worker + 1, i])
                assert store.load(f"{worker}-{i}")["embedding"].tolist() == [worker + 1, i]
                store.query([1, 1], 3)
                if i % 10 == 9:
                    store.delete(f"{worker}-{i}")
                if i == 20:
                    store.flush()
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count() == 4 * 36
    assert store.verify() == []


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_a_forked_child_must_open_its_own(tmp_path):
    import os

    store = ArrowStorage(tmp_path)
    store.save("a", "text", [1, 2])
    child = os.fork()
    if child == 0:
        try:
            store.save("b", "text", [1, 2])
        except StorageError as error:
            os._exit(0 if "before a fork" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.save("c", "text", [3, 2])
    assert store.count() == 2
    store.close()
