"""Which rows are dead is written down three times, and what was forgotten never comes back."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StoreCorruptedError
from support.manifest_line import manifest_line

FORGOTTEN = {"a1", "a2"}


def items(letter: str, count: int) -> list[dict]:
    return [
        {"memory_id": f"{letter}{i}", "content": f"text {i}", "embedding": [1.0, i]} for i in range(count)
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Rows of a large segment are dead; a later, small one is whole; the log deletes and adds."""
    path = tmp_path_factory.mktemp("dead") / "store"
    store = ArrowStorage(path)
    store.save_many(items("a", 40))
    store.flush()
    store.delete_many(FORGOTTEN)
    store.save_many(items("b", 3))
    store.flush()
    store.delete("a5")
    store.save_many(items("c", 2))
    assert store.stats()["segments"] == 2
    shutil.copytree(path, path.with_name("open"))
    return path.with_name("open")


@pytest.fixture
def store(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "s"))


def dead_files(store: Path) -> list[Path]:
    return sorted(store.glob("dead-*"))


def ids(store: ArrowStorage) -> set[str]:
    found = {memory["memory_id"] for memory in store}
    assert {memory["memory_id"] for memory, _ in store.query([1.0, 1.0], 100)} == found
    assert {name for name in FORGOTTEN | found if name in store} == found
    return found


EXPECTED = {f"a{i}" for i in range(40) if i not in (1, 2, 5)} | {"b0", "b1", "b2", "c0", "c1"}

DAMAGES = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "flipped": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"\x55" * 9),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "foreign": lambda file: file.write_bytes(b"GIF89a" * 50),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("which", [0, 1])
def test_one_damaged_copy_is_healed_from_the_other(store, which, damage):
    before = {file.name: file.read_bytes() for file in dead_files(store)}
    damaged = dead_files(store)[which]
    damage(damaged)
    for skip in (False, True):
        with ArrowStorage(store, read_only=True, skip_damaged=skip) as reader:
            assert ids(reader) == EXPECTED
            assert any(damaged.name in message for message in reader.verify())
    writer = ArrowStorage(store)
    assert ids(writer) == EXPECTED
    assert writer.verify() == []
    assert {file.name: file.read_bytes() for file in dead_files(store)} == before


@pytest.mark.parametrize("damages", list(itertools.product(DAMAGES.values(), repeat=2)))
def test_when_nobody_knows_which_rows_are_dead_none_of_them_is_shown(store, damages):
    for file, damage in zip(dead_files(store), damages, strict=True):
        damage(file)
    for read_only in (True, False):
        with pytest.raises(StoreCorruptedError, match="dead-"), ArrowStorage(store, read_only=read_only):
            pass
    with ArrowStorage(store, read_only=True, skip_damaged=True) as rest:
        assert ids(rest) == {"b0", "b1", "b2", "c0", "c1"}, "the manifest knows that segment to be whole"
        assert any("dead-" in message for message in rest.stats()["damage"])
        rest.export_parquet(store.with_name("rest.parquet"))
    with ArrowStorage(store.with_name("new")) as new:
        assert new.import_parquet(store.with_name("rest.parquet")) == 5


@pytest.mark.parametrize("damages", list(itertools.product(DAMAGES.values(), repeat=2)))
def test_a_store_without_dead_rows_does_without_their_files(tmp_path, damages):
    path = tmp_path / "s"
    with ArrowStorage(path) as store:
        store.save_many(items("a", 40))
        store.flush()
        store.delete_many(FORGOTTEN)
        store.compact()
    for file, damage in zip(dead_files(path), damages, strict=True):
        damage(file)
    with ArrowStorage(path, read_only=True) as reader:
        assert reader.count() == 38
        assert any("dead-" in message for message in reader.verify())
    with ArrowStorage(path) as writer:
        assert writer.count() == 38
        assert writer.verify() == []


def forget_what_the_manifest_says_of_the_table(store: Path) -> None:
    """Make it a manifest as version 0.1.0 wrote it."""
    lines = []
    for line in (store / "MANIFEST").read_text().splitlines():
        _, version, _, body = line.split(" ", 3)
        manifest = json.loads(body)
        manifest["tombstones"] = {name: manifest["tombstones"][name] for name in ("number", "sealed")}
        body = json.dumps(manifest)
        lines.append(manifest_line(int(version), body))
    (store / "MANIFEST").write_text("".join(lines))


def test_an_old_store_with_a_single_copy(store):
    forget_what_the_manifest_says_of_the_table(store)
    dead_files(store)[1].unlink()
    with ArrowStorage(store, read_only=True) as reader:
        assert ids(reader) == EXPECTED
    dead_files(store)[0].write_bytes(b"")
    with pytest.raises(StoreCorruptedError, match="dead-"):
        ArrowStorage(store, read_only=True)
    with ArrowStorage(store, read_only=True, skip_damaged=True) as rest:
        assert ids(rest) == {"c0", "c1"}
