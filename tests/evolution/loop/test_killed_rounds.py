"""Killed at any moment, rounds come to the cards of one that was not, and no half card is ever there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.evolution import DecisionLog, QAPair, list_skills
from evolution.judging.test_gate import HOUSE
from evolution.loop.test_evolution_worker import correct

TESTS = Path(__file__).parents[2]
KILLS = 10

_ROUNDS = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
import ai_os_diffusion.evolution.objectives.skill_trainer as trainer
from ai_os_diffusion.inference import ArrowEngine
from evolution.loop.test_evolution_worker import Budget, worker_of
trainer._SAVED_EVERY_S = 0.0
with ArrowEngine(sys.argv[1], num_threads=1) as engine:
    worker = worker_of(engine, Path(sys.argv[2]), epochs=60, budget=Budget(tries=1), precision="float32")
    print("begun", flush=True)
    worker.run()
print("done", flush=True)
"""

MASTS = [QAPair("How many masts?", "two")]


def values(folder):
    return {card.name: {name: card[name] for name in card} for card in list_skills(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(max(1, int(os.environ.get("AIOS_KILLS", "0")) // 200)))
def test_killed_at_any_moment_rounds_go_on(tiny_decoder_dir, tmp_path, seed):
    given = tmp_path / "whole"
    correct(given, HOUSE[:1], skill="house")
    correct(given, MASTS, skill="ship")
    shutil.copytree(given, tmp_path / "begin")

    def command(folder):
        return [sys.executable, "-c", _ROUNDS, tiny_decoder_dir, folder, TESTS]

    process = subprocess.Popen(command(given), stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    begun = time.monotonic()
    assert "done" in process.communicate()[0]
    took = time.monotonic() - begun
    expected, decided = values(given), settled(given)
    assert decided
    rng = np.random.default_rng(seed)
    is_done = True
    for number in range(KILLS):
        if is_done:
            killed = shutil.copytree(tmp_path / "begin", tmp_path / f"killed {number}")
        process = subprocess.Popen(command(killed), stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(took * rng.random())
        process.send_signal(signal.SIGKILL)
        is_done = "done" in process.communicate()[0]
        for name, tensors in values(killed).items():
            assert tensors.keys() == expected[name].keys()
        if number == KILLS - 1:
            subprocess.run(command(killed), check=True, stdout=subprocess.DEVNULL)
            is_done = True
        if is_done:
            found = values(killed)
            assert found.keys() == expected.keys()
            for name, tensors in expected.items():
                for key, array in tensors.items():
                    np.testing.assert_array_equal(found[name][key], array)
            assert settled(killed) == decided
            assert [path.name for path in (killed / ".evolution").iterdir()] == ["LOCK"]


def settled(folder):
    """What was decided of skills, each once."""
    log = DecisionLog(folder).read()
    return [(one.skill, one.decision, one.inputs["lesson"]) for one in log if "lesson" in one.inputs]
