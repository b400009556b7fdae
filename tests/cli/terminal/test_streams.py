"""What is written arrives whole, or the exit code tells that it did not."""

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.storage import ArrowStorage

COUNT = 300
LIST = ("memory", "list", "--limit", str(COUNT))
FULL = Path("/dev/full")
full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture
def memories(home, tmp_path):
    """A store whose list is larger than any pipe holds."""
    with ArrowStorage(tmp_path / "store") as storage:
        vectors = np.eye(COUNT, dtype=np.float32)
        storage.save_many(
            [
                {"memory_id": f"id{n}", "content": "words " * 200, "embedding": vectors[n]}
                for n in range(COUNT)
            ]
        )


@pytest.fixture
def start(command, home):
    """Start the program; what is closed with `>&-` is closed by a shell, as a user would."""
    running = []

    def begin(*args, shell=None, unbuffered=False, **options):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        if unbuffered:
            environment["PYTHONUNBUFFERED"] = "1"
        program = [*command, *args]
        if shell is not None:
            program = ["sh", "-c", f'"$@" {shell}', "sh", *program]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        running.append(subprocess.Popen(program, env=environment, **options))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ended(process):
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors.decode()


def stopped(process):
    """Wait until the program waits for its reader, and let a shell stop it and go on."""
    time.sleep(1)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("how", ["plain", "stopped", "not blocking"])
def test_a_slow_reader_gets_all(start, memories, how, unbuffered):
    reader, writer = os.pipe()
    os.set_blocking(writer, how != "not blocking")
    process = start(*LIST, "--json", stdout=writer, unbuffered=unbuffered)
    os.close(writer)
    if how == "stopped":
        stopped(process)
    else:
        time.sleep(0.5)
    with os.fdopen(reader, "rb") as output:
        assert len(json.load(output)) == COUNT
    assert ended(process)[::2] == (0, "")


@full
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize(
    "args", [("--help",), ("--version",), ("memory", "--help"), ("memory", "stats"), LIST]
)
def test_a_full_disk_is_an_error(start, memories, args, unbuffered):
    with FULL.open("wb") as disk:
        code, _, errors = ended(start(*args, stdout=disk, unbuffered=unbuffered))
    assert (code, errors) == (1, f"error: standard output: {os.strerror(errno.ENOSPC)}\n")


@full
def test_a_full_disk_is_a_json_error_where_json_was_asked_for(start, memories):
    for args in (LIST, ("memory", "stats")):
        with FULL.open("wb") as disk:
            code, _, errors = ended(start(*args, "--json", stdout=disk))
        error = json.loads(errors)["error"]
        assert code == error["exit_code"] == 1
        assert "standard output" in error["message"]


@pytest.mark.parametrize("args", [("--help",), ("memory", "stats"), (*LIST, "--json"), LIST])
def test_closed_standard_output_is_an_error(start, memories, args):
    code, _, errors = ended(start(*args, shell=">&-"))
    assert code == 1
    assert "standard output" in errors
    assert len(errors.splitlines()) == 1


def test_what_needs_no_output_works_with_all_streams_closed(start, memories, tmp_path):
    code, _, _ = ended(start("memory", "export", str(tmp_path / "m.jsonl"), shell=">&- 2>&- <&-"))
    assert code == 0
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) >= COUNT


def test_no_file_of_the_store_becomes_a_standard_stream(start, memories, tmp_path):
    # A descriptor that is free is what the next file gets, and a remark would be written into it.
    for args in (("memory", "forget", "id1", "--yes"), ("memory", "compact")):
        ended(start(*args, shell=">&- 2>&- <&-"))
    with ArrowStorage(tmp_path / "store") as storage:
        assert storage.count() == COUNT - 1


@full
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full"])
def test_remarks_that_cannot_be_written_change_nothing(start, memories, shell):
    code, output, _ = ended(start("memory", "list", "--limit", "2", shell=shell))
    assert (code, len(output.splitlines())) == (0, 2)
    assert ended(start("memory", "show", "none", shell=shell))[0] == 3


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("args", [("--help",), LIST, (*LIST, "--json")])
def test_a_reader_that_leaves_ends_it_quietly(start, memories, args, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*args, stdout=writer, unbuffered=unbuffered)
    os.close(writer)
    assert ended(process)[::2] == (141, "")


def test_a_reader_that_leaves_halfway_ends_it_quietly(start, memories):
    process = start(*LIST, "--json")
    process.stdout.read(10_000)
    process.stdout.close()
    process.stdout = None
    assert ended(process)[::2] == (141, "")


def test_ctrl_c_does_not_wait_for_the_reader(start, memories):
    process = start(*LIST, "--json")
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert process.returncode == 130
    assert b'"interrupted"' in process.stderr.read()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_holds_all_of_it(start, home, tmp_path, encoding, monkeypatch):
    with ArrowStorage(tmp_path / "store") as storage:
        storage.save("ünï 日本", "Ö 🌹 \u202e", np.ones(3, np.float32))
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    code, output, _ = ended(start("memory", "show", "ünï 日本", "--json"))
    memory = json.loads(output.decode(encoding))
    assert (code, memory["memory_id"], memory["content"]) == (0, "ünï 日本", "Ö 🌹 \u202e")
    shown = ended(start("memory", "list"))[1].decode(encoding)
    assert ("日本" if encoding == "utf-8" else r"\u65e5\u672c") in shown
