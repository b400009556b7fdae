"""One writer, many readers, in different processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError, StoreLockedError


def python(code: str, *arguments: str) -> subprocess.Popen:
    path = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", path + code, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


HOLDER = """
from ai_os_diffusion.storage import ArrowStorage
store = ArrowStorage(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
store.close()
"""

READER = """
from ai_os_diffusion.storage import ArrowStorage
store = ArrowStorage(sys.argv[1], read_only=True)
print("open", flush=True)
seen, rounds = 0, 0
for line in sys.stdin:
    acknowledged = int(line)
    view = store.snapshot()
    ids = [memory["memory_id"] for memory in view]
    assert len(ids) == view.count() >= acknowledged, (len(ids), acknowledged)
    assert ids == [f"m{i:05d}" for i in range(len(ids))], "not a prefix of the commits"
    assert len(view.query([1.0, 1.0, 1.0], 7)) == min(7, len(ids))
    assert len(ids) >= seen
    seen, rounds = len(ids), rounds + 1
    print(seen, flush=True)
"""


def test_a_second_writer_is_told_who_holds_the_store(tmp_path):
    child = python(HOLDER, str(tmp_path))
    assert child.stdout.readline() == "open\n"
    with pytest.raises(StoreLockedError, match=rf"is being written by process {child.pid} on \S+ \(since 2"):
        ArrowStorage(tmp_path)
    begun = time.monotonic()
    with pytest.raises(StoreLockedError):
        ArrowStorage(tmp_path, lock_timeout_s=0.2)
    assert time.monotonic() - begun >= 0.2
    threading.Timer(0.1, child.stdin.close).start()
    with ArrowStorage(tmp_path, lock_timeout_s=20) as store:
        store.save("a", "after the wait", [1, 2])
    child.wait()
    child.stdout.close()


def test_a_second_writer_in_the_same_process_is_refused(tmp_path):
    with ArrowStorage(tmp_path), pytest.raises(StoreLockedError, match=f"process {os.getpid()} "):
        ArrowStorage(tmp_path)


def test_a_dead_holder_is_no_holder(tmp_path):
    child = python(HOLDER, str(tmp_path))
    assert child.stdout.readline() == "open\n"
    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()
    ArrowStorage(tmp_path).close()


def test_readers_follow_without_blocking_the_writer(tmp_path):
    store = ArrowStorage(tmp_path)
    store.save("m00000", "first", [1, 2, 3])
    readers = [python(READER, str(tmp_path)) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "open\n"
    count = 1
    rng = np.random.default_rng(0)
    for batch in range(60):
        size = int(rng.integers(1, 20))
        store.save_many(
            {"memory_id": f"m{i:05d}", "content": "x" * 200, "embedding": rng.standard_normal(3)}
            for i in range(count, count + size)
        )
        count += size
        if batch % 7 == 0:
            store.flush()
        if batch % 20 == 19:
            store.compact()
        for reader in readers:
            print(count, file=reader.stdin, flush=True)
    for reader in readers:
        output, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        assert int(output.split()[-1]) == count
    store.close()


def test_a_reader_sees_the_next_commit(tmp_path):
    with ArrowStorage(tmp_path) as store, ArrowStorage(tmp_path, read_only=True) as reader:
        for i in range(30):
            store.save(f"m{i}", "text", [1, i])
            assert reader.count() == i + 1
            assert reader.load(f"m{i}")["embedding"].tolist() == [1, i]
            if i % 10 == 5:
                store.flush()
            if i % 10 == 8:
                store.compact()
        assert store.delete("m3")
        assert reader.load("m3") is None


def test_a_reader_verifies_beside_a_writer_that_moves_files(tmp_path):
    writer = ArrowStorage(tmp_path / "s")
    writer.save("first", "text", [1.0, 2.0])

    def move_on():
        for number in range(120):
            writer.save(f"m{number}", "text", [1.0, number])
            writer.compact()

    with ArrowStorage(tmp_path / "s", read_only=True) as reader:
        moving = threading.Thread(target=move_on)
        moving.start()
        found = []
        while moving.is_alive():
            found += reader.verify()
        moving.join()
        assert found == []
        assert reader.count() == 121
    writer.close()


def test_a_reader_keeps_its_snapshot_when_files_are_removed(tmp_path):
    with ArrowStorage(tmp_path) as store, ArrowStorage(tmp_path, read_only=True) as reader:
        store.save_many({"memory_id": str(i), "content": "old", "embedding": [1, i]} for i in range(50))
        store.flush()
        view = reader.snapshot()
        store.save_many({"memory_id": str(i), "content": "new", "embedding": [1, i]} for i in range(50))
        store.compact()
        assert {memory["content"] for memory in view} == {"old"}
        assert {memory["content"] for memory in reader} == {"new"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_as_a_user(tmp_path):
    check_read_only_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_read_only_folder_as_another_user(tmp_path):
    with ArrowStorage(tmp_path / "s") as store:
        store.save("a", "text", [1, 2])
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_mode & 0o001 == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(65534)
            check_read_only_folder(tmp_path)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def check_read_only_folder(tmp_path):
    if os.geteuid() != 65534:
        with ArrowStorage(tmp_path / "s") as store:
            store.save("a", "text", [1, 2])
        for path in (tmp_path / "s").iterdir():
            path.chmod(0o444)
        (tmp_path / "s").chmod(0o555)
    with pytest.raises(StorageError, match="read_only=True"):
        ArrowStorage(tmp_path / "s")
    with ArrowStorage(tmp_path / "s", read_only=True) as store:
        assert store.load("a")["content"] == "text"
    if os.geteuid() != 65534:
        (tmp_path / "s").chmod(0o755)
