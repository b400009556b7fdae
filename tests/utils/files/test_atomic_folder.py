"""A folder is replaced whole or not at all, and drafts belong to the process that makes them."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ai_os_diffusion.utils.files import atomic_folder
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.atomic_folder import (
    make_folders,
    read_consistently,
    remove_folder,
    replacing_folder,
    restore_folder,
)
from ai_os_diffusion.utils.files.drafts import draft_folder


@pytest.fixture(params=["exchange", "renames"])
def way(request, monkeypatch):
    """How the names are exchanged: at once, or as where a file system cannot do that."""
    if request.param == "renames":
        monkeypatch.setattr(atomic_folder, "_exchange", lambda _one, _other: False)
    return request.param


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(target, text: str) -> None:
    with replacing_folder(target) as draft:
        (draft / "sub").mkdir()
        (draft / "sub/a").write_text(text)
        (draft / "b").write_text(text)


def test_a_folder_is_made_replaced_and_removed(way, tmp_path):
    target = tmp_path / "mini"
    put(target, "old")
    target.chmod(0o750)
    put(target, "new")
    assert (target / "sub/a").read_text() == (target / "b").read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert names(tmp_path) == ["mini"]
    remove_folder(target)
    assert names(tmp_path) == []


def test_a_folder_that_is_gone_when_its_mode_is_asked_for_is_replaced_all_the_same(
    way, tmp_path, monkeypatch
):
    target = tmp_path / "mini"
    put(target, "old")
    copymode = atomic_folder.shutil.copymode

    def gone_for_a_moment(source, copy):
        target.rename(tmp_path / "aside")
        try:
            copymode(source, copy)
        finally:
            (tmp_path / "aside").rename(target)

    monkeypatch.setattr(atomic_folder.shutil, "copymode", gone_for_a_moment)
    put(target, "new")
    assert (target / "b").read_text() == "new"
    assert names(tmp_path) == ["mini"]


def test_an_exception_leaves_everything_as_it_was(way, tmp_path):
    put(tmp_path / "mini", "old")

    def interrupted() -> None:
        with replacing_folder(tmp_path / "mini") as draft:
            (draft / "b").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "mini/b").read_text() == "old"
    assert names(tmp_path) == ["mini"]


def test_a_second_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    put(tmp_path / "mini", "old")
    monkeypatch.setattr(atomic_folder, "_exchange", lambda _one, _other: False)
    real = type(tmp_path).rename

    def rename(self, target):
        if self.name == "new":
            raise OSError(errno.EIO, "failed", str(self))
        return real(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    with pytest.raises(OSError, match="failed") as raised:
        put(tmp_path / "mini", "new")
    assert raised.value.filename == str(tmp_path / "mini")
    assert (tmp_path / "mini/b").read_text() == "old"
    assert names(tmp_path) == ["mini"]


def test_an_error_names_the_folder_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        put(tmp_path / "no/mini", "text")
    assert raised.value.filename == str(tmp_path / "no/mini")
    (tmp_path / "mini").write_text("a file")
    with pytest.raises(OSError, match="Not a directory") as raised:
        put(tmp_path / "mini", "text")
    assert raised.value.filename == str(tmp_path / "mini")
    assert names(tmp_path) == ["mini"]


HOLDING = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.atomic_folder import replacing_folder
models = Path({folder!r})
with replacing_folder(models / "mini.v2") as folder, replacing(models / "mini.json") as file:
    (folder / "half").write_text("half")
    print("open", flush=True)
    time.sleep(60)
"""


def test_drafts_are_removed_when_their_process_is_gone_and_not_before(tmp_path):
    code = HOLDING.format(path=[path for path in sys.path if path], folder=str(tmp_path))
    (tmp_path / ".aios-0123456789abcdef.draft.txt").write_text("mine")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        held = names(tmp_path)
        os.utime(tmp_path / held[-1], (0, 0))
        put(tmp_path / "mini", "new")
        with replacing(tmp_path / "mini.txt") as draft:
            draft.write_text("text")
        assert [name for name in names(tmp_path) if name.startswith(".")] == held
        child.kill()
    with replacing(tmp_path / "mini.txt") as draft:
        draft.write_text("text")
    assert names(tmp_path) == [".aios-0123456789abcdef.draft.txt", "mini", "mini.txt"]


def test_a_folder_that_stepped_aside_is_waited_for_or_brought_back(tmp_path, monkeypatch):
    target = tmp_path / "mini"
    put(target, "old")
    monkeypatch.setattr(atomic_folder, "_exchange", lambda _one, _other: False)
    stepped_aside, go_on = threading.Event(), threading.Event()
    real = type(tmp_path).rename

    def rename(self, other):
        if self.name == "new":
            stepped_aside.set()
            go_on.wait(10)
        return real(self, other)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    writer = threading.Thread(target=put, args=(target, "new"))
    writer.start()
    stepped_aside.wait(10)
    assert not target.exists()
    monkeypatch.setattr(atomic_folder, "RESTORE_WAIT_S", 0.05)
    restore_folder(target)  # held: nothing is taken from it
    assert not target.exists()
    monkeypatch.setattr(atomic_folder, "RESTORE_WAIT_S", 10)
    threading.Timer(0.1, go_on.set).start()
    restore_folder(target)
    assert (target / "b").read_text() == "new"
    writer.join()
    restore_folder(tmp_path / "another")
    assert names(tmp_path) == ["mini"]


def test_a_reader_sees_files_of_one_time(way, tmp_path):
    target = tmp_path / "mini"
    put(target, "0")
    stop = threading.Event()

    def replace() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            put(target, str(number))

    def read() -> tuple[str, str]:
        first = (target / "sub/a").read_text()
        time.sleep(0.001)
        return first, (target / "b").read_text()

    def look() -> tuple[str, str]:
        restore_folder(target)
        return read()

    writer = threading.Thread(target=replace)
    monkey, atomic_folder._TRIES = atomic_folder._TRIES, 10_000
    writer.start()
    try:
        pairs = [read_consistently(target, look) for _ in range(50)]
    finally:
        stop.set()
        writer.join()
        atomic_folder._TRIES = monkey
    assert all(first == second for first, second in pairs)


def test_a_draft_of_one_that_asks_while_it_is_made_is_not_taken(tmp_path):
    """Many at once in one folder, each clearing what it thinks is nobody's."""
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                put(tmp_path / f"m{number}", str(turn))
                with replacing(tmp_path / f"f{number}") as draft:
                    draft.write_text(str(turn))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert names(tmp_path) == sorted([*(f"f{n}" for n in range(6)), *(f"m{n}" for n in range(6))])


def test_a_file_system_without_locks_keeps_drafts(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with draft_folder(tmp_path) as draft:
        put(tmp_path / "mini", "new")
        assert draft.is_dir()
    assert names(tmp_path) == ["mini"]


def test_folders_that_are_made_are_durable(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make_folders(tmp_path / "a/b/c")
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
    make_folders(tmp_path / "a/b/c")
    assert len(synced) == 3


def test_writers_and_readers_at_once_always_find_a_folder(way, tmp_path):
    target = tmp_path / "mini"
    put(target, "0")
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(40):
                put(target, f"{number} {turn}")
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    def read() -> None:
        try:
            while not stop.is_set():
                first, second = read_consistently(
                    target, lambda: ((target / "sub/a").read_text(), (target / "b").read_text())
                )
                assert first == second
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert failed == []
    assert names(tmp_path) == ["mini"]
