"""Reading around a damaged log shows nothing that was forgotten, and what the damage did not touch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError, StoreCorruptedError

FORGOTTEN = ["a1", "a2", "a3", "b1"]
STANDING = {name: f"text {name}" for name in ("a0", "a6", "b0", "c0", "c1")}
STANDING |= {"a4": "another text", "a5": "another text"}


def save(store: ArrowStorage, *names: str, content: str = "") -> None:
    store.save_many(
        [{"memory_id": name, "content": content or f"text {name}", "embedding": [1.0, 2.0]} for name in names]
    )


@pytest.fixture(scope="module", params=["killed", "taken over"])
def source(request, tmp_path_factory) -> Path:
    """A store whose writer was killed, and the same once another has begun."""
    path = tmp_path_factory.mktemp("log") / "store"
    store = ArrowStorage(path)
    save(store, *(f"a{i}" for i in range(7)))
    store.flush()
    save(store, "b0", "b1")
    store.delete("a1")
    save(store, "c0")
    save(store, "a4", content="another text")
    store.delete_many(["a2", "b1"])
    save(store, "c1")
    other = {"memory_id": "a5", "content": "another text", "embedding": [1.0, 2.0]}
    store.save_many([other], in_place_of=["a3"])
    save(store, "c1")
    killed = Path(shutil.copytree(path, path.with_name("killed")))
    if request.param == "killed":
        return killed
    store.close()
    writer = ArrowStorage(killed)
    taken = Path(shutil.copytree(killed, path.with_name("taken")))
    writer.close()
    return taken


@pytest.fixture
def log(source, tmp_path) -> Path:
    (log,) = Path(shutil.copytree(source, tmp_path / "s")).glob("log-*")
    return log


def frames(log: Path) -> list[int]:
    return [found.start() for found in re.finditer(b"FRM2", log.read_bytes())]


def shown(log: Path) -> dict[str, str]:
    """Contents by id when damage is read around; what is shown is right."""
    with ArrowStorage(log.parent, read_only=True, skip_damaged=True) as store:
        found = {memory["memory_id"]: memory["content"] for memory in store}
        assert not found.keys() & set(FORGOTTEN)
        assert found.items() <= STANDING.items()
        assert store.stats()["damage"] or found == STANDING
        return found


def test_the_store_as_it_is(log):
    assert shown(log) == STANDING


def test_a_damaged_record_hides_what_it_removed_and_no_more(log):
    whole = log.read_bytes()
    starts = frames(log)
    stored = [{"b0"}, set(), {"c0"}, {"a4"}, set(), {"c1"}, {"a5"}, {"c1"}]
    assert len(starts) >= len(stored)
    ends = [*starts[1:], len(whole.rstrip(b"\0"))]
    # The last one too, of which no later one tells what it removed.
    for start, end, names in zip(starts, ends, stored, strict=False):
        for at in (start, start + 5, start + 20, (start + end) // 2, end - 9, end - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 0x10
            log.write_bytes(damaged)
            with pytest.raises(StoreCorruptedError, match=log.name):
                ArrowStorage(log.parent, read_only=True)
            found = shown(log)
            lost = STANDING.keys() - found.keys()
            # A memory that is replaced again later is there.
            assert lost <= names, (start, at, lost)


def test_several_damaged_records_side_by_side(log):
    whole = log.read_bytes()
    starts = frames(log)
    for first in range(len(starts) - 1):
        for last in range(first + 1, len(starts)):
            damaged = bytearray(whole)
            damaged[starts[first] : starts[last]] = bytes(starts[last] - starts[first])
            log.write_bytes(damaged)
            assert shown(log).keys() >= {"a0", "a6"}


def test_more_removals_than_a_record_lists_hide_all_from_before(tmp_path):
    path = tmp_path / "s"
    store = ArrowStorage(path)
    names = [f"{i:03}" for i in range(200)]
    save(store, *names)
    store.flush()
    store.delete_many(names[:150])
    save(store, "new")
    copy = Path(shutil.copytree(path, tmp_path / "copy"))
    (log,) = copy.glob("log-*")
    start, end = frames(log)[:2]
    damaged = bytearray(log.read_bytes())
    damaged[(start + end) // 2] ^= 1
    log.write_bytes(damaged)
    with ArrowStorage(copy, read_only=True, skip_damaged=True) as rest:
        assert {memory["memory_id"] for memory in rest} == {"new"}
        assert any("no memory from before them" in message for message in rest.stats()["damage"])


DAMAGES = {
    "missing": lambda log: log.unlink(),
    "zeroed": lambda log: log.write_bytes(bytes(log.stat().st_size)),
    "foreign": lambda log: log.write_bytes(b"GIF89a" * 5000),
    "header": lambda log: log.write_bytes(bytes(40) + log.read_bytes()[40:]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_log_that_is_no_more_hides_what_it_may_have_removed(log, damage):
    damage(log)
    with pytest.raises(StorageError, match="log-"):
        ArrowStorage(log.parent, read_only=True)
    shown(log)


def test_a_log_that_is_cut_behind_its_known_end(log):
    with ArrowStorage(log.parent, read_only=True) as store:
        assert {memory["memory_id"] for memory in store} == STANDING.keys()
    if '"ended":{' not in (log.parent / "MANIFEST").read_text():
        pytest.skip("a log of which nothing says how long it was looks like one that was torn")
    whole = log.read_bytes()
    for length in range(0, len(whole), 13):
        log.write_bytes(whole[:length])
        assert shown(log).keys() >= ({"a0", "a6"} if length >= 32 else set())


def test_a_damaged_header_of_an_empty_log_hides_nothing(tmp_path):
    with ArrowStorage(tmp_path / "s") as store:
        save(store, "a", "b")
    (log,) = (tmp_path / "s").glob("log-*")
    whole = log.read_bytes()
    assert len(whole) == 32
    for at in range(28):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        log.write_bytes(damaged)
        with ArrowStorage(tmp_path / "s", read_only=True, skip_damaged=True) as rest:
            assert rest.count() == 2
