"""Damage is found and named, never returned as data, and the rest stays readable."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError, StoreCorruptedError
from support.manifest_line import manifest_line

COUNT = 40


def content(i: int) -> str:
    return f"memory {i} " * 20


def fill(path: Path) -> dict[str, str]:
    """A store with two segments, tombstones and a log: its writer ended without closing it."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((COUNT, 16))
    store = ArrowStorage(path)
    items = [{"memory_id": f"m{i:02d}", "content": content(i), "embedding": vectors[i]} for i in range(COUNT)]
    store.save_many(items[:24])
    store.flush()
    store.save_many(items[24:36])
    store.delete_many(["m03", "m30"])
    store.flush()
    for item in items[36:]:
        store.save(item["memory_id"], item["content"], item["embedding"])
    store.delete("m05")
    return {memory["memory_id"]: memory["content"] for memory in store}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "store"
    return path, fill(path)


def files_of(path: Path) -> dict[str, str]:
    names = sorted(file.name for file in path.iterdir() if file.name != "LOCK")
    assert {re.sub(r"\d", "", name) for name in names} == {
        "MANIFEST",
        "log-",
        "dead-",
        "dead-.parquet",
        "seg-.fts",
        "seg-.parquet",
        "seg-.vec",
    }
    return {re.sub(r"\d", "", name): name for name in names}


def read_all(store: ArrowStorage) -> dict[str, str]:
    store.query(np.ones(16), 50, text="number text content")
    return {memory["memory_id"]: memory["content"] for memory in store}


KINDS = ["MANIFEST", "log-", "dead-", "dead-.parquet", "seg-.fts", "seg-.parquet", "seg-.vec"]
# Nothing is read from these files that is not also elsewhere.
DERIVED = {"dead-", "dead-.parquet", "seg-.fts", "seg-.vec"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_the_rest_is_readable(original, tmp_path, kind):
    source, expected = original
    name = files_of(source)[kind]
    data = (source / name).read_bytes()
    dice = random.Random(1)
    for _ in range(60):
        at, bit = dice.randrange(len(data)), dice.randrange(8)
        told = f"{name}: byte {at}, bit {bit}"
        path = tmp_path / "s"
        shutil.copytree(source, path)
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        (path / name).write_bytes(flipped)
        try:
            with ArrowStorage(path, read_only=True) as store:
                assert any(name in message for message in store.verify()), told
                found = read_all(store)
        except StorageError as error:
            assert kind not in DERIVED, told
            named = name in str(error)
            found = expected if named else str(error)
        assert found == expected, told
        with ArrowStorage(path, read_only=True, skip_damaged=True) as store:
            rest = read_all(store)
            for memory_id, text in rest.items():
                assert text == content(int(memory_id[1:])), told
            lost = {"log-": 1, "seg-.parquet": COUNT}.get(kind, 0)
            assert len(expected.keys() - rest.keys()) <= lost, f"{told}: {expected.keys() - rest.keys()}"
            if kind in DERIVED:
                assert rest == expected, told
        shutil.rmtree(path)


def test_any_flipped_bit_of_the_manifest_leaves_the_store_whole(original, tmp_path):
    source, expected = original
    path = tmp_path / "s"
    shutil.copytree(source, path)
    manifest = path / "MANIFEST"
    data = manifest.read_bytes()
    parting = data.index(b"\n")
    flips = [(at, at % 8) for at in range(0, len(data), 5)] + [(parting, bit) for bit in range(8)]
    for at, bit in flips:
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        manifest.write_bytes(flipped)
        with ArrowStorage(path, read_only=True) as store:
            assert any("MANIFEST" in message for message in store.verify()), (at, bit)
            assert store.count() == len(expected), (at, bit)


def fill_log(path: Path) -> ArrowStorage:
    store = ArrowStorage(path)
    for i in range(6):
        store.save(f"m{i}", content(i), [1, i])
    return store


def test_the_log_of_a_crash_cut_at_every_length_holds_a_prefix(tmp_path):
    store, path = fill_log(tmp_path / "source"), tmp_path / "s"
    shutil.copytree(store.path, path)  # what a killed process leaves
    (log,) = path.glob("log-*")
    data = log.read_bytes().rstrip(b"\0") + bytes(8)
    seen = set()
    for length in range(32, len(data) + 1):
        (path / log.name).write_bytes(data[:length])
        with ArrowStorage(path, read_only=True) as store:
            found = read_prefix(store)
            seen.add(found)
        if length % 50 == 0:
            shutil.copytree(path, tmp_path / "again")
            with ArrowStorage(tmp_path / "again") as store:
                assert read_prefix(store) == found
                store.save("later", "text", [1, 1])
            with ArrowStorage(tmp_path / "again") as store:
                assert store.count() == found + 1
                assert store.verify() == []
            shutil.rmtree(tmp_path / "again")
    assert seen == set(range(7))


@pytest.mark.parametrize("dimension", [2, 384])
def test_a_flipped_bit_in_the_last_commit_of_a_crash_is_no_silent_loss(tmp_path, dimension):
    store, path, dice = ArrowStorage(tmp_path / "source"), tmp_path / "s", random.Random(dimension)
    one_hot = np.eye(dimension, dtype=np.float32)
    ends = []
    for i in range(4):
        store.save_many(
            [
                {"memory_id": f"m{i}-{j}", "content": content(j), "embedding": one_hot[j % 2]}
                for j in range(i + 1)
            ]
        )
        shutil.copytree(store.path, path, dirs_exist_ok=True)
        (log,) = path.glob("log-*")
        ends.append(len(log.read_bytes().rstrip(b"\0")))
    data = log.read_bytes()
    earlier = {f"m{i}-{j}" for i in range(3) for j in range(i + 1)}
    for _ in range(200):
        at, bit = dice.randrange(ends[2], ends[3]), dice.randrange(8)
        told = f"byte {at - ends[2]} of {ends[3] - ends[2]}, bit {bit}"
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        log.write_bytes(flipped)
        for read_only in (True, False):
            with pytest.raises(StoreCorruptedError, match=log.name):
                ArrowStorage(path, read_only=read_only)
        with ArrowStorage(path, read_only=True, skip_damaged=True) as rest:
            assert {memory["memory_id"] for memory in rest} >= earlier, told
            assert any(log.name in message for message in rest.verify()), told
    log.write_bytes(data)
    with ArrowStorage(path) as whole:
        assert whole.count() == 10


def test_a_log_that_was_complete_may_not_be_cut(tmp_path):
    path = tmp_path / "s"
    fill_log(path)  # dropped: its commits stay in the log, which says that nothing is missing
    (log,) = path.glob("log-*")
    data = log.read_bytes()
    closing = data.rindex(b"FRM2")
    for length in [*range(0, len(data), 37), len(data) - 1]:
        log.write_bytes(data[:length])
        for read_only in (True, False):
            with pytest.raises(StoreCorruptedError, match=log.name), ArrowStorage(path, read_only=read_only):
                pass
        with ArrowStorage(path, read_only=True, skip_damaged=True) as store:
            assert read_prefix(store) < 6 or length >= closing
            assert any(log.name in damage for damage in store.stats()["damage"])
    log.write_bytes(data)
    with ArrowStorage(path, read_only=True) as store:
        assert read_prefix(store) == 6
        assert store.verify() == []
        log.write_bytes(data[:200])
        assert any(log.name in message for message in store.verify())
    # A session that ends in a kill leaves more behind the same beginning.
    log.write_bytes(data)
    store = ArrowStorage(path)
    store.save("m6", content(6), [1, 6])
    shutil.copytree(path, tmp_path / "killed")
    with ArrowStorage(tmp_path / "killed", read_only=True) as store:
        assert read_prefix(store) == 7


def read_prefix(store: ArrowStorage) -> int:
    memories = list(store)
    assert [m["memory_id"] for m in memories] == [f"m{i}" for i in range(len(memories))]
    assert [m["content"] for m in memories] == [content(i) for i in range(len(memories))]
    return len(memories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "zeroed", "foreign"])
def test_a_damaged_file_is_named(original, tmp_path, kind, damage):
    source, expected = original
    path = tmp_path / "s"
    shutil.copytree(source, path)
    name = files_of(source)[kind]
    file = path / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        half = len(data) // 2
        file.write_bytes(
            {"empty": b"", "half": data[:half], "zeroed": data[:half] + bytes(len(data) - half)}.get(
                damage, b"GIF89a" * 99
            )
        )
    if kind in DERIVED:
        with ArrowStorage(path, read_only=True) as store:
            assert read_all(store) == expected
            # A store without an index is whole: it makes one.
            is_whole = (damage, kind) == ("missing", "seg-.fts")
            assert is_whole or any(name in message for message in store.verify())
        with ArrowStorage(path) as store:
            assert read_all(store) == expected
        with ArrowStorage(path) as store:
            assert store.verify() == []
        return
    if kind == "MANIFEST" and damage in ("half", "zeroed"):
        # The first of the two copies is whole.
        with ArrowStorage(path, read_only=True) as store:
            assert read_all(store) == expected
            assert any(name in message for message in store.verify())
        return
    with (
        pytest.raises(StoreCorruptedError, match=re.escape(name)) as raised,
        ArrowStorage(path, read_only=True) as store,
    ):
        read_all(store)
    assert "at byte" in str(raised.value)
    with pytest.raises(StoreCorruptedError, match=re.escape(name)), ArrowStorage(path) as store:
        read_all(store)
    if kind != "MANIFEST":
        with ArrowStorage(path, read_only=True, skip_damaged=True) as store:
            assert store.stats()["damage"]
            for memory_id, text in read_all(store).items():
                assert text == content(int(memory_id[1:]))


def test_damaged_vectors_are_made_again_and_logged(original, tmp_path, caplog):
    source, expected = original
    path = tmp_path / "s"
    shutil.copytree(source, path)
    file = sorted(path.glob("seg-*.vec"))[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    with ArrowStorage(path, read_only=True) as store:
        hits = store.query(np.ones(16), 50)
        assert {memory["memory_id"] for memory, _ in hits} == expected.keys()
        assert file.read_bytes() == data, "a reader changes nothing"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("ai_os_diffusion.storage", "WARNING")
    assert file.name in record.getMessage()
    caplog.clear()
    with ArrowStorage(path) as store:
        assert read_all(store) == expected
        assert len(caplog.records) == 1
    caplog.clear()
    with ArrowStorage(path) as store:
        assert read_all(store) == expected
        assert store.verify() == []
    assert not caplog.records


def test_what_is_whole_can_be_saved_from_a_damaged_store(original, tmp_path):
    source, expected = original
    path = tmp_path / "s"
    shutil.copytree(source, path)
    tables = sorted(path.glob("seg-*.parquet"))
    data = bytearray(tables[0].read_bytes())
    data[len(data) // 3] ^= 1
    tables[0].write_bytes(data)
    with (
        ArrowStorage(path, read_only=True, skip_damaged=True) as damaged,
        ArrowStorage(tmp_path / "new") as new,
    ):
        damaged.export_parquet(tmp_path / "rest.parquet")
        saved = new.import_parquet(tmp_path / "rest.parquet")
        assert 0 < saved < len(expected)
        assert read_all(new).items() <= expected.items()


def test_a_newer_format_is_refused(original, tmp_path):
    path = tmp_path / "s"
    shutil.copytree(original[0], path)
    manifest = path / "MANIFEST"
    lines = []
    for line in manifest.read_text().splitlines():
        body = line.split(" ", 3)[3]
        lines.append(manifest_line(5, body))
    manifest.write_text("".join(lines))
    for read_only in (True, False):
        with pytest.raises(StorageError, match="format version 5; this build reads up to 4: upgrade"):
            ArrowStorage(path, read_only=read_only)
    assert manifest.read_text() == "".join(lines)


def test_compaction_heals_damaged_vectors(tmp_path):
    matrix = np.random.default_rng(0).standard_normal((2000, 16))
    with ArrowStorage(tmp_path) as store:
        store.save_many(
            {"memory_id": f"m{i}", "content": "text", "embedding": row} for i, row in enumerate(matrix)
        )
        store.flush()
    (vectors,) = tmp_path.glob("seg-*.vec")
    data = bytearray(vectors.read_bytes())
    data[100] ^= 1
    vectors.write_bytes(data)
    with ArrowStorage(tmp_path) as store:
        assert len(store.query(np.ones(16))) == 5
        assert [vectors.name in message for message in store.verify()] == [True]
        assert store.load("m0")["embedding"].tolist() == matrix[0].astype(np.float32).tolist(), (
            "from the table"
        )
        store.compact()
        assert len(store.query(np.ones(16))) == 5
        assert store.verify() == []
        assert store.count() == 2000


def test_orphans_of_a_crash_are_removed_and_nothing_else(original, tmp_path):
    path = tmp_path / "s"
    shutil.copytree(original[0], path)
    tables = ("seg-00000999.parquet", "dead-00000999.parquet")
    drafts = (*(f"{name}.draft" for name in (*tables, "seg-00000999.fts")), "MANIFEST.tmp")
    for name in (*tables, *drafts, "seg-00000999.vec", "seg-00000999.fts", "log-00000999", "dead-00000999"):
        (path / name).write_bytes(b"half")
    mine = {"notes.txt", "seg-mine.parquet", "log-book"}
    for name in mine:
        (path / name).write_bytes(b"mine")
    store = ArrowStorage(path)
    left = {f.name for f in path.iterdir()}
    logs = {name for name in left if re.fullmatch(r"log-\d+", name)}
    assert len(logs) == 1
    assert left - logs - {f.name for f in original[0].iterdir()} == mine
    assert read_all(store) == original[1]
