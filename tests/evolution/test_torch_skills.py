"""Skills that torch learns are those that are learned natively."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPair, SkillTest, list_skills
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards.names import MAGNITUDE, A, B
from ai_os_diffusion.utils.errors import TrainingError

PAIRS = [
    QAPair("Who wrote the first program?", "Ada"),
    QAPair("When was it printed?", "1843"),
    QAPair("For which machine was it?", "the engine"),
    QAPair("Who built that?", "nobody"),
]
TEXTS = [
    ("who wrote it", "ada lovelace"),
    ("when", "1843"),
    ("for what", "an engine"),
    ("where", "in london"),
]
SMALL = {"rank": 4, "batch_size": 4, "rate": 1e-2, "warm_up": 5, "precision": "float32"}


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small are slower on several threads."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def taught(model, folder, trainer, steps, more=None, **settings):
    """A card, and what the steps told."""
    told = []
    learner = LoRATrainer(
        model, config=LoRAConfig(**SMALL | settings), folder=folder / trainer, trainer=trainer, **more or {}
    )
    if learner.objective == "contrastive":
        return learner.train_pairs(TEXTS, "skill", epochs=steps, tell=told.append), told
    return learner.train_qa(PAIRS, "skill", epochs=steps, tell=told.append), told


def changes(card):
    """What a card adds to each layer."""
    return {name: card[name.removesuffix(A) + B] @ card[name] for name in card if name.endswith(A)}


def assert_alike(ours, theirs, share=0.02):
    """The changes differ by at most that share of their length: by the rounding of factors to 8 bits."""
    found, expected = changes(ours), changes(theirs)
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        length = np.linalg.norm(change)
        assert length > 0, name
        assert np.linalg.norm(found[name] - change) <= share * length, name
    for name in (name for name in theirs if name.endswith(MAGNITUDE)):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, err_msg=name)


@pytest.mark.torch
@pytest.mark.parametrize(("dropout", "use_dora"), [(0.0, False), (0.2, False), (0.0, True)])
def test_a_short_learning_makes_the_same_card(engine, tmp_path, monkeypatch, dropout, use_dora):
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 8)
    settings = {
        "anchor": 0.5,
        "dropped_words": 0.1,
        "dropout": dropout,
        "patience": 30,
        "use_dora": use_dora,
    }
    cards, told = zip(
        *(taught(engine, tmp_path, trainer, 12, **settings) for trainer in ("torch", "native")), strict=True
    )
    assert_alike(*cards)
    ours, theirs = ([line for line in lines if "step" in line] for lines in told)
    for what in ("loss", "anchor", "validation_loss"):
        assert [line[what] for line in ours] == pytest.approx(
            [line[what] for line in theirs], rel=1e-2, abs=1e-4
        )
    assert [line["tokens"] for line in ours] == [line["tokens"] for line in theirs]


@pytest.mark.torch
@pytest.mark.parametrize("use_dora", [False, True])
def test_a_skill_for_diffusion_is_the_same_card(tiny_diffusion_dir, tmp_path, use_dora):
    with ArrowEngine(tiny_diffusion_dir, num_threads=1) as engine:
        cards = [
            taught(engine, tmp_path, trainer, 8, {"objective": "diffusion"}, anchor=0.0, use_dora=use_dora)[0]
            for trainer in ("torch", "native")
        ]
    assert_alike(*cards)


@pytest.mark.torch
@pytest.mark.parametrize("use_dora", [False, True])
def test_an_encoder_learns_the_same_card(tiny_encoder_dir, tmp_path, use_dora):
    with ArrowEngine(tiny_encoder_dir, num_threads=1) as engine:
        cards = [
            taught(engine, tmp_path, trainer, 8, dropout=0.1, use_dora=use_dora)[0]
            for trainer in ("torch", "native")
        ]
    assert_alike(*cards)


@pytest.mark.torch
def test_what_torch_learned_is_said(engine, tmp_path):
    card, _ = taught(engine, tmp_path, "torch", 60, anchor=0.0, dropped_words=0.0, precision="bfloat16")
    with engine.using(card):
        assert SkillTest.of(engine, PAIRS).exact_match == 1.0


@pytest.mark.torch
def test_a_learning_that_was_broken_off_goes_on_to_the_same_card(engine, tmp_path):
    settings = LoRAConfig(**SMALL, anchor=0.0, dropout=0.1)

    def learn(folder, trainer="torch", **more):
        learner = LoRATrainer(engine, config=settings, folder=folder, trainer=trainer)
        return learner.train_qa(PAIRS, "skill", epochs=6, **more)

    whole, steps = learn(tmp_path / "whole"), []
    with pytest.raises(TrainingError, match="broken off"):
        learn(tmp_path, tell=steps.append, is_stopped=lambda: len(steps) == 3)
    card = learn(tmp_path, tell=steps.append)
    assert [line["step"] for line in steps] == list(range(1, 7))
    for name in whole:
        np.testing.assert_array_equal(card[name], whole[name])
    # What one trainer began the other does not go on with: its card would be neither's.
    steps.clear()
    with pytest.raises(TrainingError, match="broken off"):
        learn(tmp_path / "other", is_stopped=lambda: True)
    learn(tmp_path / "other", "native", tell=steps.append)
    assert steps[0]["step"] == 1


RUN = """
import sys
from pathlib import Path
import ai_os_diffusion.evolution.anchor as anchor
from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer
anchor._TEXTS = 8
decoder, diffusion, encoder, out = sys.argv[1:]
PAIRS = [{"q": q, "a": a} for q, a in [("Who wrote it?", "Ada"), ("When?", "1843"), ("What for?", "engines")]]
TEXTS = [("who wrote it", "ada lovelace"), ("when", "1843"), ("for what", "an engine"), ("where", "london")]
common = {"rank": 4, "batch_size": 3, "rate": 1e-2, "warm_up": 2, "precision": "float32", "dropout": 0.2}
told = []
for model, settings in ((decoder, {"patience": 9}), (diffusion, {"anchor": 0.0}), (encoder, {})):
    objective = "diffusion" if model == diffusion else None
    learner = LoRATrainer(model, config=LoRAConfig(**common, **settings), folder=out, trainer="torch",
                          objective=objective)
    learn = learner.train_pairs if model == encoder else learner.train_qa
    card = learn(TEXTS if model == encoder else PAIRS, Path(model).name, epochs=5, tell=told.append)
    assert card.description.metrics["steps"] == (10 if model == encoder else 5)
assert bool(told) == learner.processes.is_first, "the first process tells, and no other"
"""


@pytest.mark.slow
@pytest.mark.torch
def test_two_processes_learn_what_one_does(tiny_decoder_dir, tiny_diffusion_dir, tiny_encoder_dir, tmp_path):
    pytest.importorskip("accelerate")
    (tmp_path / "run.py").write_text(RUN)
    models = [tiny_decoder_dir, tiny_diffusion_dir, tiny_encoder_dir]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for out, launched in (("one", []), ("two", two)):
        command = [sys.executable, *launched, tmp_path / "run.py", *models, tmp_path / out]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    cards = [{card.name: card for card in list_skills(tmp_path / out)} for out in ("one", "two")]
    assert cards[0].keys() == cards[1].keys() == {model.name for model in models}
    for name, card in cards[0].items():
        assert_alike(cards[1][name], card)
    assert not list((tmp_path / "two").glob(".*.learning"))
