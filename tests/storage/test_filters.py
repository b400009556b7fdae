"""Filters say the same as the equivalent Python, in the log and in segments."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError

METADATA = [
    {"kind": "note", "size": 3, "tags": ["a", "b"], "at": {"line": 10}},
    {"kind": "note", "size": 5.5, "tags": [], "at": {"line": 20}},
    {"kind": "code", "size": 7, "ok": True},
    {"kind": "code", "size": None, "ok": False, "name": "über"},
    {},
]

CASES = [
    ({"kind": "note"}, "01"),
    ({"kind": {"$ne": "note"}}, "234"),
    ({"size": {"$gt": 3, "$lte": 7}}, "12"),
    ({"size": None}, "34"),
    ({"size": {"$exists": True}}, "0123"),
    ({"tags": "a"}, "0"),
    ({"at.line": {"$in": [20, 30]}}, "1"),
    ({"at.line": {"$nin": [20, 30]}}, "0234"),
    ({"name": {"$prefix": "üb"}}, "3"),
    ({"$or": [{"ok": True}, {"size": 3}]}, "02"),
    ({"$and": [{"kind": "code"}, {"$not": {"ok": True}}]}, "3"),
    ({"$nor": [{"kind": "code"}, {"size": 3}]}, "14"),
    ({"@id": {"$gte": "3"}}, "34"),
    ({"@created_at": {"$gt": 0}}, "01234"),
    ({"@updated_at": {"$lt": 0}}, ""),
    ({}, "01234"),
]


@pytest.fixture(params=["log", "segment", "both"])
def store(request, tmp_path):
    with ArrowStorage(tmp_path) as store:
        for i, metadata in enumerate(METADATA):
            store.save(str(i), "text", [1, i], metadata)
            if request.param == "both" and i == 2:
                store.flush()
        if request.param == "segment":
            store.flush()
        yield store


@pytest.mark.parametrize(("filter", "expected"), CASES)
def test_a_filter_selects(store, filter, expected):
    assert "".join(memory["memory_id"] for memory in store.iter(filter)) == expected
    assert store.count(filter) == len(expected)
    found = store.query([1, 1], 10, filter=filter)
    assert sorted(memory["memory_id"] for memory, _ in found) == sorted(expected)


def test_a_remembered_filter_notices_deletions(store):
    assert store.count({"kind": "note"}) == 2
    store.delete("0")
    assert store.count({"kind": "note"}) == 1
    store.update("1", metadata={"kind": "code"})
    assert store.count({"kind": "note"}) == 0


NO_CONDITION = [
    {},
    {"$and": []},
    {"$and": [{}, {"$or": [{"kind": "note"}, {}]}]},
    {"$not": {"$or": []}},
    {"$nor": []},
    {"$not": {"kind": {"$in": []}}},
    {"kind": {"$nin": []}, "size": {"$not": {"$in": []}}},
    {"$or": [{"kind": "note"}, {"kind": {"$ne": "note"}}]},
    {"$or": [{"at": {"$exists": True}}, {"at.line": {"$exists": False}}]},
    {"@id": {"$prefix": ""}},
    {"@id": {"$exists": True}},
    {"@created_at": {"$lt": 1e15}},
]


@pytest.mark.parametrize("filter", NO_CONDITION, ids=json.dumps)
def test_a_filter_that_asks_for_nothing_deletes_nothing(store, filter):
    assert store.count(filter) == 5, "it may be used to read"
    with pytest.raises(StorageError, match=r"everything=True, got .*, which every memory satisfies"):
        store.delete_where(filter)
    assert store.count() == 5
    assert store.delete_where(filter, everything=True) == 5
    assert store.count() == 0


@pytest.mark.parametrize(
    ("filter", "left"),
    [
        ({"$or": []}, "01234"),
        ({"kind": {"$in": []}}, "01234"),
        ({"kind": {"$ne": "note"}}, "01"),
        ({"name": None}, "3"),
    ],
    ids=str,
)
def test_a_filter_that_asks_for_something_deletes_just_that(store, filter, left):
    assert store.delete_where(filter) == 5 - len(left)
    assert "".join(memory["memory_id"] for memory in store) == left


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


UNREADABLE = {"deep": deep(128), "deeper": deep(900), "long": {"n": 10**400}, "nan": {"n": float("nan")}}
UNREADABLE |= {"infinite": {"n": [np.float32("inf")]}, "key": {1: 2}, "object": {"n": object()}}


@pytest.mark.parametrize("metadata", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_metadata_that_no_filter_could_read_is_refused(tmp_path, metadata):
    with ArrowStorage(tmp_path) as store:
        store.save("good", "text", [1, 2], {"n": 1})
        row = {"memory_id": "the bad one", "content": "", "embedding": [1, 2], "metadata": metadata}
        calls = [
            lambda: store.save("the bad one", "", [1, 2], metadata),
            lambda: store.add("the bad one", "", [1, 2], metadata),
            lambda: store.save_many([{**row, "memory_id": "b", "metadata": {}}, row]),
            lambda: store.update("good", metadata=metadata),
        ]
        for call, named in zip(calls, ["the bad one"] * 3 + ["good"], strict=True):
            with pytest.raises(StorageError, match=f"metadata of .{named}."):
                call()
        assert [memory["metadata"] for memory in store.iter({"n": 1})] == [{"n": 1}]
        assert store.count({"n": {"$ne": 1}}) == 0


@pytest.mark.parametrize(
    "text", ['{"n": NaN}', '{"n": 1e999}', '{"n": ' + "[" * 128 + "]" * 128 + "}", "[]", "{"]
)
def test_metadata_that_no_filter_could_read_is_refused_in_tables_and_files(tmp_path, text):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {"memory_id": ["a", "b"], "content": ["", ""], "embedding": [[1.0], [2.0]]}
    table = pa.table({**columns, "metadata": ["{}", text]})
    pq.write_table(table, tmp_path / "in.parquet")
    line = '{"memory_id": "%s", "content": "", "embedding": [1], "metadata": %s}'
    (tmp_path / "in.jsonl").write_text(f"{line % ('a', '{}')}\n{line % ('b', text)}\n")
    with ArrowStorage(tmp_path / "s") as store:
        with pytest.raises(StorageError, match=r"metadata of .b."):
            store.save_many(table)
        with pytest.raises(StorageError, match=r"metadata of .b."):
            store.import_parquet(tmp_path / "in.parquet")
        with pytest.raises(StorageError, match=r"in\.jsonl, line 2: |metadata of .b."):
            store.import_jsonl(tmp_path / "in.jsonl")
        assert store.count() == 0


def test_numpy_and_dates_are_metadata(tmp_path):
    moment = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    metadata = {
        "whole": np.int64(3),
        "part": np.float32(0.5),
        "truth": np.bool_(True),
        "text": np.str_("x"),
        "list": [np.uint8(1), np.array([[1, 2]])],
        "day": date(2020, 1, 2),
        "moment": moment,
        "plain": datetime(2020, 1, 2),
        "stamp": np.datetime64("2020-01-02T03:04"),
    }
    with ArrowStorage(tmp_path) as store:
        store.save("a", "", [1], metadata)
        assert store["a"]["metadata"] == {
            "whole": 3,
            "part": 0.5,
            "truth": True,
            "text": "x",
            "list": [1, [[1, 2]]],
            "day": "2020-01-02",
            "moment": "2020-01-02T02:04:05+00:00",
            "plain": "2020-01-02T00:00:00",
            "stamp": "2020-01-02T03:04",
        }
        later = moment.astimezone(timezone(timedelta(hours=9))) - timedelta(seconds=1)
        assert (
            store.count({"moment": {"$gt": later}, "whole": np.int8(3), "day": {"$lt": date(2020, 1, 3)}})
            == 1
        )
        for odd in (np.complex64(1j), np.datetime64("NaT"), b"bytes"):
            with pytest.raises(StorageError, match="expected JSON values"):
                store.save("b", "", [1], {"odd": odd})
