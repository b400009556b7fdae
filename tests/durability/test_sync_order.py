"""System calls in order: nothing is acknowledged or replaced before what it stands on is synced."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import os
from ai_os_diffusion.storage import ArrowStorage
store = ArrowStorage(sys.argv[1])
def mark(what):
    os.write(2, f"MARK {what}\\n".encode())
mark("save begins")
store.save("a", "text", [1, 2])
mark("save done")
store.save_many([{"memory_id": f"m{i}", "content": "", "embedding": [1, i]} for i in range(9)])
mark("save_many done")
store.update("a", content="other")
mark("update done")
store.delete("a")
mark("delete done")
store.flush()
mark("flush done")
store.compact()
store.save_many({"memory_id": f"n{i}", "content": "x" * 9000, "embedding": [1, i]} for i in range(600))
mark("bulk done")
store.close()
store = ArrowStorage(sys.argv[1])
mark("reopened")
store.save("b", "text", [1, 2])
mark("first save done")
"""

CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) = (-?\d+)")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """The calls as (name, arguments), and the marks as ("MARK", what)."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("traced")
    log = folder / "strace.log"
    path = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"
    calls = "openat,pwrite64,write,fsync,fdatasync,rename,renameat,renameat2,ftruncate,unlink,unlinkat"
    command = [sys.executable, "-c", path + SCRIPT, str(folder / "store")]
    done = subprocess.run(
        ["strace", "-f", "-y", "-s", "64", "-e", f"trace={calls}", "-o", str(log), *command],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 and "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    events = []
    for line in log.read_text().splitlines():
        if match := CALL.match(line):
            name, arguments, result = match.groups()
            if int(result) < 0:
                continue
            if mark := re.search(r'"MARK ([^\\]*)', arguments):
                events.append(("MARK", mark[1]))
            else:
                events.append((name, arguments))
    return events


def between(events, begin, end):
    marks = [what for name, what in events if name == "MARK"]
    assert begin in marks
    assert end in marks
    return events[events.index(("MARK", begin)) + 1 : events.index(("MARK", end))]


def is_sync(event, what):
    return event[0] in ("fsync", "fdatasync") and what in event[1]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("save begins", "save done"),
        ("save done", "save_many done"),
        ("save_many done", "update done"),
        ("update done", "delete done"),
        ("reopened", "first save done"),
    ],
)
def test_the_log_is_synced_before_the_call_returns(trace, begin, end):
    events = between(trace, begin, end)
    writes = [i for i, event in enumerate(events) if event[0] == "pwrite64" and "/log-" in event[1]]
    syncs = [i for i, event in enumerate(events) if is_sync(event, "/log-")]
    assert writes
    assert syncs
    assert syncs[-1] > writes[-1]


@pytest.mark.parametrize(("begin", "end"), [("delete done", "flush done"), ("flush done", "bulk done")])
def test_the_manifest_is_replaced_between_two_syncs(trace, begin, end):
    events = between(trace, begin, end)
    renames = [i for i, event in enumerate(events) if event[0].startswith("rename")]
    tables = [i for i in renames if ".draft" in events[i][1]]
    renames = [i for i in renames if "MANIFEST.tmp" in events[i][1]]
    assert renames
    assert tables
    for at in tables:
        draft = re.search(r'"([^"]*)\.draft"', events[at][1])[1]
        wrote = max(i for i in range(at) if events[i][0] == "pwrite64" and f"{draft}.draft>" in events[i][1])
        assert any(is_sync(event, f"{draft}.draft>") for event in events[wrote:at]), draft
        manifest = min(i for i in renames if i > at)
        assert any(e[0] == "fsync" and "/store>" in e[1] for e in events[at:manifest]), "the table's name"
    for at in renames:
        before = events[:at]
        # The first manifest names a second log, and only a later one the segments.
        segments = [] if at < min(tables) else ["/seg-"]
        for kind in (*segments, "/log-", "/MANIFEST.tmp"):
            assert any(e[0] == "pwrite64" and kind in e[1] for e in before), kind
            for name in {
                re.search(r"<([^>]*)>", e[1])[1] for e in before if e[0] == "pwrite64" and kind in e[1]
            }:
                last = max(i for i, e in enumerate(before) if e[0] == "pwrite64" and f"<{name}>" in e[1])
                assert any(is_sync(e, f"<{name}>") for e in before[last:]), name
        folder = re.compile(r"/store>")
        assert any(e[0] == "fsync" and folder.search(e[1]) for e in before), "the new names"
        rest = events[at:]
        following = next((i for i, e in enumerate(rest) if e[0] == "fsync" and folder.search(e[1])), None)
        assert following is not None, "the replaced name"
        removed = [i for i, e in enumerate(rest) if e[0].startswith("unlink")]
        assert all(i > following for i in removed), "nothing old is removed before the new is durable"


def test_a_manifest_that_was_found_is_made_durable_before_a_commit_stands_on_it(trace):
    events = between(trace, "reopened", "first save done")
    renamed = next(i for i, e in enumerate(events) if e[0].startswith("rename") and "MANIFEST.tmp" in e[1])
    named = next(i for i, e in enumerate(events) if i > renamed and e[0] == "fsync" and "/store>" in e[1])
    appended = [i for i, e in enumerate(events) if e[0] == "pwrite64" and "/log-" in e[1]]
    assert appended
    assert all(i > named for i in appended)
