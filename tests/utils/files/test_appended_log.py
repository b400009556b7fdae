"""A log that is compacted loses no row that is to stay, whoever appends or is killed meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from ai_os_diffusion.utils.errors import EvolutionError
from ai_os_diffusion.utils.files import appended_log
from ai_os_diffusion.utils.files.appended_log import AppendedLog


def lasting(rows):
    """Of rows with one `kind` the last; others stay."""
    last = {row["kind"]: number for number, row in enumerate(rows) if row["kind"] is not None}
    return [row for number, row in enumerate(rows) if row["kind"] is None or last[row["kind"]] == number]


def log_of(path):
    return AppendedLog(path, EvolutionError, lasting)


def row(number, kind):
    return {"kind": kind, "number": number, "text": "x" * 40}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(appended_log, "_CHUNK", 1000)


def test_it_does_not_grow_by_what_is_repeated(tmp_path):
    log, sizes = log_of(tmp_path / "log.jsonl"), []
    for number in range(1000):
        log.append(row(number, None if number % 100 == 0 else f"kind {number % 3}"))
        sizes.append(log.path.stat().st_size)
    found = log.read(dict)
    assert [one["number"] for one in found if one["kind"] is None] == list(range(0, 1000, 100))
    assert found[-1] == row(999, "kind 0")
    assert [one["number"] for one in found] == sorted(one["number"] for one in found)
    assert max(sizes) < 3000
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_what_is_damaged_costs_no_other(tmp_path, caplog):
    log = log_of(tmp_path / "log.jsonl")
    log.append(row(0, None))
    with log.path.open("ab") as file:
        file.write(b'{"kind": "torn')
    for number in range(1, 40):
        log.append(row(number, "kind"))
    assert "damaged" in caplog.text
    assert [one["number"] for one in log.read(dict)][:1] == [0]
    assert [one["number"] for one in log.read(dict)][-1:] == [39]


def test_without_a_rule_all_stays(tmp_path):
    log = AppendedLog(tmp_path / "log.jsonl", EvolutionError)
    for number in range(100):
        log.append(row(number, "kind"))
    assert len(log.read(dict)) == 100


def test_where_it_cannot_be_replaced_all_stays(tmp_path, monkeypatch, caplog):
    def refused(*_args):
        raise PermissionError("no")

    monkeypatch.setattr(appended_log, "replacing", refused)
    log = log_of(tmp_path / "log.jsonl")
    for number in range(100):
        log.append(row(number, "kind"))
    assert len(log.read(dict)) == 100
    assert "is not compacted: no" in caplog.text


_APPENDS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_appended_log as test
test.appended_log._CHUNK = 1000
log = test.log_of(Path(sys.argv[2]))
who = sys.argv[3]
for number in range(int(sys.argv[4])):
    log.append({**test.row(number, None if number % 5 == 0 else "kind"), "who": who})
    print(number, flush=True)
"""


def begun(folder, path, who, rows):
    command = [sys.executable, "-c", _APPENDS, str(folder), str(path), who, str(rows)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_append_lose_none(tmp_path, request):
    path, folder = tmp_path / "log.jsonl", request.path.parent
    processes = [begun(folder, path, who, 200) for who in "abc"]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    found = [one for one in log_of(path).read(dict) if one["kind"] is None]
    for who in "abc":
        assert [one["number"] for one in found if one["who"] == who] == list(range(0, 200, 5))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_at_any_moment_what_was_acknowledged_is_there(tmp_path, request):
    path, folder, acknowledged = tmp_path / "log.jsonl", request.path.parent, {}
    for kill, delay_s in enumerate((0.0, 0.003, 0.01, 0.02, 0.05)):
        with begun(folder, path, f"{kill}", 100_000) as process:
            said = [process.stdout.readline() for _ in range(40)]
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
        whole = [line for line in said if line.endswith("\n")]
        acknowledged[f"{kill}"] = int(whole[-1])
    found = log_of(path).read(dict)
    for who, last in acknowledged.items():
        own = {one["number"] for one in found if one["who"] == who and one["kind"] is None}
        assert own >= set(range(0, last + 1, 5))
    assert path.stat().st_size < 200 * sum(acknowledged.values()) / 5 + 5000
