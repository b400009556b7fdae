"""A model is the old one or the new one, whole, wherever what replaces it is killed or the machine stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_models.py")
OLD, NEW = [1e-12, "fp32"], [1e-6, "fp32"]
# What may be found after a kill, and what is there once the verb was run to its end.
OUTCOMES = {
    "pull": ((None, NEW), NEW),
    "re-pull": ((OLD, NEW), NEW),
    "copy": ((OLD, NEW), NEW),
    "convert --force": ((OLD, NEW), NEW),
    "quantize": ((OLD, [1e-12, "int8"]), [1e-12, "int8"]),
    "rm": ((OLD, None), None),
}


def run(folder: Path, verb: str, way: str, end: str) -> tuple[list[dict], list[tuple[str, ...]]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), verb, way, end],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *rows, (_, steps) = [json.loads(line) for line in done.stdout.splitlines()]
    return rows, [tuple(step) for step in steps]


RUNS = [(verb, "exchange", "kill") for verb in OUTCOMES]
RUNS += [("re-pull", "renames", "kill"), ("rm", "renames", "kill"), ("re-pull", "exchange", "fail")]
REST = [(verb, way, end) for verb in OUTCOMES for way in ("exchange", "renames") for end in ("kill", "fail")]
REST = [pytest.param(*rest, marks=pytest.mark.slow) for rest in REST if rest not in RUNS]


@pytest.mark.parametrize(("verb", "way", "end"), RUNS + REST)
def test_whatever_is_not_done_leaves_a_whole_model(verb, way, end, tmp_path):
    rows, steps = run(tmp_path, verb, way, end)
    allowed, final = OUTCOMES[verb]
    assert len(rows) > 10
    found = set()
    for row in rows:
        status, seen = row["seen"]
        assert status == 0, row
        assert seen.get("tiny") in allowed, row
        assert seen["tiny.v2"] == OLD
        # What failed says so; what says nothing has done its work.
        if row["status"] == 0 and row["said"] in (None, "done"):
            assert seen.get("tiny") == final, row
        # The next run leaves nothing of this one.
        if row["again"] is not None:
            assert row["again"][0] == 0, row
            assert row["litter"] == [], row
            assert row["after"][1].get("tiny") == final, row
        found.add(json.dumps(seen.get("tiny")))
    assert len(found) == 2, "only one of the two was found"
    check_order(steps, verb)


def check_order(steps: list[tuple[str, ...]], verb: str) -> None:
    """What takes the name is durable before it does; the old is removed only when the new name is."""
    names = [step[0] for step in steps]
    if verb != "rm":
        taken = max(
            number
            for number, step in enumerate(steps)
            if step[0] in ("exchange", "os.rename") and step[1].endswith("/new")
        )
        written = {
            step[1]
            for step in steps[:taken]
            if step[0] == "open" and "/new/" in step[1] and ".aios" not in Path(step[1]).name
        }
        draft = Path(steps[taken][1])
        synced = {step[1] for step in steps[:taken] if step[0] == "fsync"}
        assert written | {str(draft), str(draft / "weights.parquet")} <= synced
    else:
        taken = max(number for number, step in enumerate(steps) if step[0] == "os.rename")
    above = next(number for number in range(taken, len(steps)) if names[number] == "fsync")
    assert steps[above][1].endswith("/models")
    removed = [number for number in range(taken, len(steps)) if names[number] == "os.remove"]
    assert removed
    assert removed[0] > above
