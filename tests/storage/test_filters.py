"""Filters say the same as the equivalent Python, in the log and in segments."""

from __future__ import annotations

import pytest

from ai_os_diffusion.storage import ArrowStorage

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
