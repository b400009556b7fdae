"""Any damage to any file of a store: nothing is lost unsaid, no row is wrong, nothing crashes or hangs."""

from __future__ import annotations

import collections
import functools
import os
import random
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import StorageError

DAMAGES = int(os.environ.get("AIOS_DAMAGES", "100"))
CPU_S, WAIT_S = 5, 120
FORGOTTEN = {f"m{i:04d}" for i in range(60)}
EXPECTED = {f"m{i:04d}" for i in range(60, 830)}


def content(name: str) -> str:
    return f"note {name} " * (1 + int(name[1:]) % 50)


def vector(name: str) -> np.ndarray:
    return np.random.default_rng(int(name[1:])).standard_normal(48).astype(np.float32)


@functools.cache
def record(name: str) -> dict:
    number = int(name[1:])
    metadata = {"n": number, "kind": "odd" if number % 2 else "even"}
    return {"memory_id": name, "content": content(name), "embedding": vector(name), "metadata": metadata}


def records(begin: int, end: int) -> list[dict]:
    return [record(f"m{i:04d}") for i in range(begin, end)]


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> list[Path]:
    """One of segments alone, one whose last commits are in a log that was ended."""
    folder = tmp_path_factory.mktemp("damage")
    for name in ("closed", "ended"):
        store = ArrowStorage(folder / name)
        store.save_many(records(0, 600))
        store.flush()
        store.delete_many(FORGOTTEN)
        store.save_many(records(600, 800))
        store.flush()
        store.save_many(records(800, 830))
        if name == "closed":
            store.close()
        del store
    return [folder / "closed", folder / "ended"]


def flip(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def zero(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data)) // 4096 * 4096
    data[at : at + 4096] = bytes(len(data[at : at + 4096]))


def swap(data: bytearray, dice: random.Random) -> None:
    size = 4096 if len(data) >= 3 * 4096 else max(len(data) // 3, 1)
    a, b = (page * size for page in sorted(dice.sample(range(len(data) // size), 2)))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def foreign(data: bytearray, dice: random.Random) -> None:
    data[:] = dice.choice([b"GIF89a" * 99, dice.randbytes(5000), b"", b"{}\n", b"PAR1" + bytes(64) + b"PAR1"])


DAMAGE: list[Callable[[bytearray, random.Random], None]] = [flip, flip, flip, cut, zero, swap, foreign]


def look(store: ArrowStorage) -> set[str]:
    """Read everything in every way; each row that is shown has to be right."""
    found = set()
    for memory in store:
        name = memory["memory_id"]
        expected = record(name)
        assert memory["content"] == expected["content"], name
        assert memory["metadata"] == expected["metadata"], name
        assert (memory["embedding"] == expected["embedding"]).all(), name
        found.add(name)
    for name in ("m0061", "m0601", "m0801"):
        hits = store.query(vector(name), 3, filter={"kind": "odd"})
        assert (name in found) == bool(hits and hits[0][0]["memory_id"] == name), name
        assert {memory["memory_id"] for memory, _ in hits} <= found
    assert store.count({"n": {"$gte": 0}}) == len(found)
    assert not FORGOTTEN & found
    return found


def named(name: str, error: StorageError) -> str:
    assert name in str(error), error
    return "refused"


def plainly(path: Path, name: str) -> str:
    try:
        with ArrowStorage(path, read_only=True) as store:
            assert look(store) == EXPECTED
            return "found" if any(name in message for message in store.verify()) else "harmless"
    except StorageError as error:
        return named(name, error)


def around(path: Path, name: str) -> str:
    try:
        with ArrowStorage(path, read_only=True, skip_damaged=True) as store:
            found = look(store)
            assert found <= EXPECTED
            assert found == EXPECTED or any(name in damage for damage in store.stats()["damage"])
            return "whole" if found == EXPECTED else "part"
    except StorageError as error:
        # Nothing tells which files are the store's.
        return named("MANIFEST", error)


def writing(path: Path, name: str) -> str:
    added = record("m0900")
    try:
        with ArrowStorage(path) as store:
            store.upsert(added["memory_id"], added["content"], added["embedding"], added["metadata"])
            store.compact()
            assert look(store) == EXPECTED | {"m0900"}
            assert store.verify() == []
            return "healed"
    except StorageError as error:
        return named(name, error)


def in_a_fork(work: Callable[[], str]) -> str:
    """What it returns, or how it failed; it may use few seconds."""
    answer, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(WAIT_S)
            used = sum(os.times()[:2])
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_S, -1))
            try:
                said = work()
            except BaseException as error:  # noqa: BLE001  # whatever it is, the parent is to tell
                said = f"FAILED {type(error).__name__}: {error}"
            os.write(out, said.encode()[:4000])
        finally:
            os._exit(0)
    os.close(out)
    with os.fdopen(answer) as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return f"FAILED by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said


def test_any_damage_to_any_file(stores, tmp_path):
    dice = random.Random(22)
    outcomes: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for number in range(DAMAGES):
        source, damage = dice.choice(stores), dice.choice(DAMAGE)
        names = sorted(file.name for file in source.iterdir() if file.name != "LOCK")
        kinds = sorted({re.sub(r"\d+", "N", name) for name in names})
        kind = kinds[number % len(kinds)]
        name = dice.choice([name for name in names if re.sub(r"\d+", "N", name) == kind])
        data = bytearray((source / name).read_bytes())
        damage(data, dice)
        for mode in (plainly, around, writing):
            path = Path(shutil.copytree(source, tmp_path / "s"))
            (path / name).write_bytes(data)
            outcome = in_a_fork(lambda mode=mode, path=path, name=name: mode(path, name))
            told = (
                f"damage {number}: {damage.__name__} of {name} in {source.name}, {mode.__name__}: {outcome}"
            )
            assert not outcome.startswith("FAILED"), told
            outcomes[kind, mode.__name__, outcome] += 1
            shutil.rmtree(path)
    for key, count in sorted(outcomes.items()):
        print(count, *key)
