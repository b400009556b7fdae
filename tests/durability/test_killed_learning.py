"""`aios learn`, killed at any moment: the next run goes on or begins anew, and half a card is never there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ai_os_diffusion.evolution import list_skills
from ai_os_diffusion.inference import ArrowEngine

KILLS = int(os.environ.get("AIOS_KILLS", "0")) // 80 or 2

# A state after every step, few texts of the base, a gate that lets all pass: random weights learn nothing.
PROGRAM = """
import ai_os_diffusion.evolution.anchor as anchor, ai_os_diffusion.evolution.lora_trainer as trainer
import ai_os_diffusion.evolution.objectives.skill_trainer as skill_trainer
anchor._TEXTS, skill_trainer._SAVED_EVERY_S = 8, 0.0
trainer.LoRATrainer._pass = lambda *given: None
from ai_os_diffusion.cli.main import run
run()
"""
PAIRS = [{"q": f"What is {number} called?", "a": f"the {number}"} for number in range(6)]


def values(card):
    return {name: card[name] for name in card}


@pytest.mark.parametrize("gate", ["--gate", "--no-gate"])
def test_killed_at_any_moment(gate, tmp_path, tiny_encoder_dir, tiny_decoder_dir):
    file = tmp_path / "facts.jsonl"
    file.write_text("\n".join(map(json.dumps, PAIRS)), encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, "learn", file, "--epochs", "200", "--patience", "150", gate]
    command += ["--paraphrases", "2"]
    models = {"AIOS_MODEL_ENCODER": str(tiny_encoder_dir), "AIOS_MODEL_DECODER": str(tiny_decoder_dir)}

    def start(folder):
        environment = {**os.environ, **models, "AIOS_SKILLS_DIR": str(folder)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(folder):
        process = start(folder)
        told = process.communicate()[1]
        assert process.returncode == 0, told

    begun = time.monotonic()
    finish(tmp_path / "whole")
    took = time.monotonic() - begun
    (expected,) = (values(card) for card in list_skills(tmp_path / "whole"))
    rng = np.random.default_rng(len(gate))
    killed, went_on, folder = 0, 0, tmp_path / "killed"
    with ArrowEngine(tiny_decoder_dir) as engine:
        while killed < KILLS:
            process = start(folder)
            time.sleep(rng.uniform(0, took))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            went_on += (folder / ".facts.learning").exists()
            for card in list_skills(folder):
                with engine.using(card):
                    np.testing.assert_equal(values(card), expected)
                card.path.unlink()
        finish(folder)
        (card,) = list_skills(folder)
        np.testing.assert_equal(values(card), expected)
    left = {path.name for path in folder.iterdir()} - {"facts.parquet", ".anchor", ".paraphrases"}
    assert not left, "nothing is left of the learnings that were killed"
    assert went_on or KILLS < 10, "no state was there to go on from: only beginnings were killed"
    print(f"{killed} kills, after {went_on} of them a state was there to go on from")
