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


def run(folder: Path, verb: str, way: str) -> list[list]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), verb, way],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


RUNS = [(verb, "exchange") for verb in OUTCOMES] + [(verb, "renames") for verb in ("re-pull", "rm")]
REST = [(verb, "renames") for verb in OUTCOMES if (verb, "renames") not in RUNS]


@pytest.mark.parametrize(("verb", "way"), RUNS + [pytest.param(*run, marks=pytest.mark.slow) for run in REST])
def test_a_kill_at_any_file_operation_leaves_a_whole_model(verb, way, tmp_path):
    *kills, trace = run(tmp_path, verb, way)
    allowed, final = OUTCOMES[verb]
    statuses = [kill[1] for kill in kills]
    assert statuses[-1] == 0
    assert len(statuses) > 10
    found = set()
    for number, _, (status, seen), again, litter, (_, after) in kills:
        assert status == 0, (number, seen)
        assert seen.get("tiny") in allowed, number
        assert seen["tiny.v2"] == OLD
        assert again is None or again[0] == 0, (number, again)
        # The next run leaves nothing of the one that was killed.
        assert after.get("tiny") == final or verb == "rm"
        assert litter == [] or again is None, (number, litter)
        found.add(json.dumps(seen.get("tiny")))
    assert len(found) == 2, "the kills met only one of the two"
    check_order([tuple(step) for step in trace[1][1]], verb)


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
