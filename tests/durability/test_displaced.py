"""A writer whose folder or lock is not the one it opened stops, and touches nothing of another store."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError, StoreLockedError

VECTOR = [1.0, 2.0, 3.0]


def remove_lock(store: Path) -> None:
    (store / "LOCK").unlink()


def replace_lock(store: Path) -> None:
    (store / "new").touch()
    (store / "new").rename(store / "LOCK")


def move(store: Path) -> None:
    store.rename(store.with_name("moved"))


def move_and_make_again(store: Path) -> None:
    move(store)
    fill(store, "other")


def exchange(store: Path) -> None:
    """Another store comes in its place at one instant."""
    fill(store.with_name("new"), "other")
    move(store)
    store.with_name("new").rename(store)


def remove(store: Path) -> None:
    shutil.rmtree(store)


def remove_and_make_again(store: Path) -> None:
    remove(store)
    fill(store, "other")


def move_the_folder_above(store: Path) -> None:
    store.parent.rename(store.parent.with_name("elsewhere"))


def put_a_file_in_its_place(store: Path) -> None:
    move(store)
    store.write_text("a file")


DISPLACEMENTS = [
    remove_lock,
    replace_lock,
    move,
    move_and_make_again,
    exchange,
    remove,
    remove_and_make_again,
    move_the_folder_above,
    put_a_file_in_its_place,
]


def fill(path: Path, name: str) -> None:
    with ArrowStorage(path) as store:
        store.save(name, "text", VECTOR)


def bytes_below(folder: Path) -> dict[str, bytes]:
    """What all files hold, but for the words about who writes."""
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "LOCK"
    }


def ids(path: Path) -> set[str]:
    with ArrowStorage(path) as store:
        assert store.verify() == []
        return {memory["memory_id"] for memory in store}


COMMITS: dict[str, Callable[[ArrowStorage], object]] = {
    "save": lambda store: store.save("late", "text", VECTOR),
    "save_much": lambda store: store.save("late", "x" * (5 << 20), VECTOR),
    "update": lambda store: store.update("a", content="changed"),
    "delete": lambda store: store.delete("a"),
    "flush": lambda store: store.flush(),
    "compact": lambda store: store.compact(),
}


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS.keys())
@pytest.mark.parametrize("displace", DISPLACEMENTS)
def test_the_next_commit_fails_and_nothing_is_touched(tmp_path, displace, commit):
    path = tmp_path / "above" / "s"
    store = ArrowStorage(path)
    store.save("a", "text", VECTOR)
    store.flush()
    store.save("b", "text", VECTOR)
    displace(path)
    before = bytes_below(tmp_path)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"LOCK was removed or replaced|folder was moved, removed or"):
            commit(store)
    store.close()
    assert bytes_below(tmp_path) == before
    stores = [ids(found.parent) for found in tmp_path.rglob("MANIFEST")]
    mine = [] if displace in (remove, remove_and_make_again) else [{"a", "b"}]
    others = [{"other"}] if displace in (move_and_make_again, exchange, remove_and_make_again) else []
    assert sorted(map(sorted, stores)) == sorted(map(sorted, mine + others))


@pytest.mark.parametrize("displace", [remove_lock, replace_lock])
def test_of_two_writers_what_either_acknowledged_is_there(tmp_path, displace):
    first = ArrowStorage(tmp_path)
    first.save("first", "text", VECTOR)
    displace(tmp_path)
    second = ArrowStorage(tmp_path)
    acknowledged = {"first"}
    for round_ in range(20):
        for name, store in (("first", first), ("second", second)):
            try:
                store.save(f"{name}{round_}", "text", VECTOR)
            except StorageError:
                assert store is first
            else:
                acknowledged.add(f"{name}{round_}")
    first.close()
    second.close()
    assert ids(tmp_path) == acknowledged
    assert len(acknowledged) == 21


def test_a_working_folder_that_changes_is_no_displacement(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ArrowStorage("s") as store, ArrowStorage("s", read_only=True) as reader:
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        store.save("a", "text", VECTOR)
        store.compact()
        assert reader.count() == 1
    assert ids(tmp_path / "s") == {"a"}
    assert not any((tmp_path / "below").iterdir())


def test_a_store_behind_a_link_is_the_one_it_led_to(tmp_path):
    fill(tmp_path / "other", "other")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = ArrowStorage(tmp_path / "link")
    store.save("a", "text", VECTOR)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(StorageError, match="folder was moved"):
        store.save("b", "text", VECTOR)
    store.close()
    assert ids(tmp_path / "other") == {"other"}
    assert ids(tmp_path / "real") == {"a"}


def test_what_was_not_durable_is_told_on_close(tmp_path):
    store = ArrowStorage(tmp_path / "s", durability="none")
    store.save("a", "text", VECTOR)
    remove(tmp_path / "s")
    with pytest.raises(StorageError, match="folder was moved, removed"):
        store.close()


def in_a_fork(work: Callable[[], None]) -> int:
    """Run in a forked child that fails loudly, and return its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def succeeded(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def hold_on():
    """Something that forked children wait for, until the test lets them go."""
    wait, let_go = os.pipe()
    yield lambda: os.read(wait, 1)
    os.write(let_go, b"x" * 8)
    os.close(wait)
    os.close(let_go)


def test_a_forked_child_does_not_hold_the_lock(tmp_path, hold_on):
    store = ArrowStorage(tmp_path)
    child = in_a_fork(hold_on)
    store.close()
    ArrowStorage(tmp_path).close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_forked_child_does_not_release_the_lock(tmp_path):
    store = ArrowStorage(tmp_path)

    def child() -> None:
        with pytest.raises(StorageError, match=f"opened by process {os.getppid()}, before a fork"):
            store.save("a", "text", VECTOR)
        store.close()
        held = f"is being written by process {os.getppid()} "
        with pytest.raises(StoreLockedError, match=held):
            ArrowStorage(tmp_path)

    assert succeeded(in_a_fork(child))
    with pytest.raises(StoreLockedError, match=f"process {os.getpid()} "):
        ArrowStorage(tmp_path)
    store.save("b", "text", VECTOR)
    store.close()
    assert ids(tmp_path) == {"b"}


def test_a_forked_child_that_drops_the_store_closes_no_file_of_its_own(tmp_path):
    stores = [ArrowStorage(tmp_path)]

    def child() -> None:
        # These get the numbers of the files that the fork closed.
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
        stores.clear()
        for file in files:
            os.fstat(file)

    assert succeeded(in_a_fork(child))
    stores[0].save("a", "text", VECTOR)


FORKING = """
import os, sys, time
from ai_os_diffusion.storage import ArrowStorage
store = ArrowStorage(sys.argv[1])
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_the_child_of_a_killed_writer_does_not_go_on_holding(tmp_path):
    path = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"
    writer = subprocess.Popen(
        [sys.executable, "-c", path + FORKING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    child = int(writer.stdout.readline())
    writer.kill()
    writer.wait()
    writer.stdout.close()
    try:
        with ArrowStorage(tmp_path), pytest.raises(StoreLockedError, match=f"process {os.getpid()} "):
            ArrowStorage(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_holder_that_is_no_more_is_not_named(tmp_path):
    with ArrowStorage(tmp_path):
        # As after a kill, before the next holder has written its own name.
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        mine = (tmp_path / "LOCK").read_text()
        (tmp_path / "LOCK").write_text(mine.replace(str(os.getpid()), str(ended.pid)))
        with pytest.raises(StoreLockedError, match="by another process"):
            ArrowStorage(tmp_path)
    assert (tmp_path / "LOCK").read_text() == ""
