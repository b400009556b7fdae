"""A writer that is killed loses nothing acknowledged and leaves nothing half done."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ai_os_diffusion.storage import ArrowStorage

WRITER = Path(__file__).with_name("writer.py")
KILLS = int(os.environ.get("AIOS_KILLS", "12"))
WRITERS = 4


def load_writer():
    spec = importlib.util.spec_from_file_location("durability_writer", WRITER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def acknowledged(lines: list[str]) -> tuple[set[str], set[str], list[tuple[str, str]]]:
    """What must be there, what must not, and pairs of which exactly one must, by whole lines of the child."""
    there: set[str] = set()
    gone: set[str] = set()
    exchanged: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("+ "):
            there.add(line[2:])
        elif line.startswith("? "):
            there.discard(line[2:])
        elif line.startswith("- "):
            gone.add(line[2:])
        elif line.startswith("~ "):
            old, _, new = line[2:].partition(" ")
            exchanged.append((old, new))
    return there, gone, exchanged


def kill_after(folder: Path, seed: int, seconds: float) -> list[str]:
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", bootstrap(), str(WRITER), str(folder), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    time.sleep(seconds)
    child.kill()
    lines = child.stdout.read().split("\n")
    child.wait()
    child.stdout.close()
    return lines[:-1]


def bootstrap() -> str:
    """Starts the writer with this process's modules, without the site's start-up."""
    return (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; sys.argv = sys.argv[1:]; "
        "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    )


def test_kill_9_loses_nothing_acknowledged(tmp_path):
    writer = load_writer()
    dice = random.Random(20)
    there: set[str] = set()
    gone: set[str] = set()
    slowest = 0.0
    for seed in range(KILLS):
        new, deleted, exchanged = acknowledged(kill_after(tmp_path / "s", seed, dice.uniform(0, 0.12)))
        there |= new
        gone |= deleted
        begun = time.perf_counter()
        with ArrowStorage(tmp_path / "s") as store:
            slowest = max(slowest, time.perf_counter() - begun)
            found = {memory["memory_id"]: memory for memory in store}
        assert there <= found.keys(), f"seed {seed}: lost {there - found.keys()}"
        assert not (gone & found.keys()), f"seed {seed}: came back {gone & found.keys()}"
        for pair in exchanged:
            assert len(found.keys() & set(pair)) == 1, f"seed {seed}: of {pair} {found.keys() & set(pair)}"
        for name, memory in found.items():
            if name.startswith(f"{seed}-"):
                assert memory["content"] == writer.content_of(name)
                assert memory["metadata"] == {"name": name}
                assert (memory["embedding"] == writer.embedding_of(name)).all()
        # What was saved but not acknowledged is there whole; it counts from now on.
        there |= found.keys()
    with ArrowStorage(tmp_path / "s") as store:
        assert store.verify() == []
    print(f"{KILLS} kills, {len(there)} memories, slowest reopening {slowest * 1e3:.1f} ms")


class Competitor:
    """A forked writer, and what it said."""

    def __init__(self, writer, folder: Path, seed: int) -> None:
        self.seed = seed
        self.lines, out = os.pipe()
        self.id = os.fork()
        if self.id == 0:
            try:
                os.dup2(out, sys.__stdout__.fileno())
                sys.stdout = sys.__stdout__
                writer.compete(str(folder), seed)
            finally:
                os._exit(1)
        os.close(out)

    def kill(self) -> list[str]:
        os.kill(self.id, signal.SIGKILL)
        with os.fdopen(self.lines) as lines:
            said = lines.read().split("\n")
        assert os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1]) == -signal.SIGKILL, "it failed by itself"
        return said[:-1]


def test_kill_9_of_writers_that_compete_loses_nothing_acknowledged(tmp_path):
    writer = load_writer()
    dice = random.Random(21)
    folder = tmp_path / "s"
    there: set[str] = set()
    gone: set[str] = set()
    exchanged: list[tuple[str, str]] = []
    seen: set[str] = set()
    ArrowStorage(folder).close()
    competitors = [Competitor(writer, folder, seed) for seed in range(WRITERS)]
    for kill in range(KILLS):
        time.sleep(dice.uniform(0, 0.05))
        killed = competitors.pop(dice.randrange(WRITERS))
        new, deleted, pairs = acknowledged(killed.kill())
        there |= new
        gone |= deleted
        exchanged += pairs
        competitors.append(Competitor(writer, folder, WRITERS + kill))
        if kill % max(10, KILLS // 20) == 9:
            with ArrowStorage(folder, read_only=True) as store:
                check_found(writer, store, there, gone, exchanged, seen)
    for competitor in competitors:
        new, deleted, pairs = acknowledged(competitor.kill())
        there |= new
        gone |= deleted
        exchanged += pairs
    with ArrowStorage(folder) as store:
        check_found(writer, store, there, gone, exchanged, seen)
        count = store.count()
    with ArrowStorage(folder) as store:
        assert store.verify() == []
        assert store.count() == count
    print(f"{KILLS + WRITERS} kills of {WRITERS} writers, {len(there)} acknowledged, {count} memories")


def check_found(writer, store, there, gone, exchanged, seen):
    """Compare with what was acknowledged; what was seen before only has to be there still."""
    found = {memory["memory_id"]: memory for memory in store}
    assert there <= found.keys(), f"lost {there - found.keys()}"
    assert not (gone & found.keys()), f"came back {gone & found.keys()}"
    for pair in exchanged:
        assert len(found.keys() & set(pair)) == 1, f"of {pair} {found.keys() & set(pair)}"
    for name in found.keys() - seen:
        assert found[name]["content"] == writer.content_of(name)
        assert found[name]["metadata"] == {"name": name}
        assert (found[name]["embedding"] == writer.embedding_of(name)).all()
    seen |= found.keys()


@pytest.mark.skipif(sys.platform != "linux", reason="the lock's holder is looked up in /proc")
def test_a_killed_writer_frees_the_lock(tmp_path):
    for seed in range(3):
        kill_after(tmp_path / "s", seed, 0.05)
        ArrowStorage(tmp_path / "s", lock_timeout_s=0).close()
