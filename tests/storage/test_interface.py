"""The names that people expect of a store of vectors, and a store in memory."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import DimensionError, MemoryNotFoundError, StorageError


@pytest.fixture
def store(tmp_path):
    with ArrowStorage(tmp_path / "s") as store:
        store.save("a", "first", [1, 0], {"kind": "note"})
        store.save("b", "second", [0, 1], {"kind": "code"})
        yield store


def test_it_reads_like_a_mapping(store):
    assert store["a"]["content"] == "first"
    assert "a" in store
    assert "c" not in store
    assert 7 not in store
    assert store.get("c") is None
    assert store.get("c", "nothing") == "nothing"
    assert store.get("b")["content"] == "second"
    assert store.snapshot()["b"]["content"] == "second"
    for error in (KeyError, StorageError, MemoryNotFoundError):
        with pytest.raises(error) as raised:
            store["c"]
        assert str(raised.value).startswith("there is no memory 'c'")
    with pytest.raises(StorageError, match="expected a text, got int"):
        store[0]


def test_add_takes_only_what_is_new_and_upsert_both(store):
    store.add("c", "third", [1, 1])
    with pytest.raises(
        StorageError, match=r"one that is new, got \"c\", which is there: save or upsert replaces it"
    ):
        store.add("c", "again", [1, 1])
    store.flush()
    with pytest.raises(StorageError, match="which is there"):
        store.add("a", "again", [1, 1])
    assert (store["c"]["content"], store["a"]["content"]) == ("third", "first")
    store.delete("c")
    store.add("c", "once more", [1, 1])
    store.upsert("c", "replaced", [1, 1], {"k": 1})
    store.upsert("d", "new", [1, 1])
    assert [memory["content"] for memory in store] == ["first", "second", "replaced", "new"]


def test_search_takes_vectors(store):
    for find in (store.search, store.query_by_similarity):
        assert [memory["memory_id"] for memory, _ in find([1, 0.1])] == ["a", "b"]
        assert [memory["memory_id"] for memory, _ in find([1, 0.1], filter={"kind": "code"})] == ["b"]
        assert [memory["memory_id"] for memory, _ in find([1, 0.1], 1)] == ["a"]
        assert [memory["memory_id"] for memory, _ in find([1, 0.1], min_similarity=0.5)] == ["a"]


@pytest.mark.parametrize("text", ["a question", ["a question"], np.str_("x"), b"bytes"])
def test_a_text_is_to_be_embedded_first(store, text):
    for call in (
        store.search,
        store.query_by_similarity,
        store.query,
        lambda text: store.save("x", "", text),
    ):
        with pytest.raises(
            DimensionError, match="got a text; a store holds vectors and makes none: embed it first"
        ):
            call(text)


def test_a_store_in_memory_is_gone_when_closed():
    with ArrowStorage(":memory:") as store, ArrowStorage(":memory:") as other:
        folder = Path(store.path)
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
        store.save_many({"memory_id": f"m{i}", "content": "", "embedding": [1, i]} for i in range(3000))
        store.flush()
        store.delete("m7")
        assert (store.count(), other.count()) == (2999, 0)
        assert store.search([1, 5])[0][0]["memory_id"] == "m5"
        view = store.snapshot()
    assert not folder.exists()
    assert view["m9"]["embedding"].tolist() == [1, 9]
    with pytest.raises(StorageError, match="is closed"):
        store.count()
    store.close()


def test_a_store_in_memory_is_gone_when_forgotten():
    store = ArrowStorage(":memory:", dimension=2)
    store.save("a", "", [1, 2])
    folder = Path(store.path)
    child = os.fork()
    if child == 0:
        # Not `os._exit`: what runs when a process ends is run.
        del store
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.is_dir(), "a forked process leaves it alone"
    assert store.count() == 1
    del store
    gc.collect()
    assert not folder.exists()


def test_a_store_in_memory_is_for_writing():
    with pytest.raises(StorageError, match="read_only: expected False with ':memory:'"):
        ArrowStorage(":memory:", read_only=True)
