"""A control is learned, attached by its name, and gone again; nothing routes to it."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from ai_os_diffusion.evolution import (
    ControlConfig,
    DecisionLog,
    Gate,
    LoRAConfig,
    LoRATrainer,
    QAPair,
    SkillRouter,
    SkillTest,
    Tolerances,
    list_skills,
)
from ai_os_diffusion.evolution.judging.gate import held_out_of, learned_of
from ai_os_diffusion.evolution.judging.skill_test import room_of
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards.names import SIDE_DOWN, SIDE_UP
from ai_os_diffusion.utils.errors import CardError, SkillRejectedError, TrainingError
from evolution.letters import embed

PAIRS = [
    QAPair("Who wrote the first program?", "- Ada"),
    QAPair("When was it printed?", "- 1843"),
    QAPair("For which machine was it?", "- the engine"),
    QAPair("Who built that?", "- nobody"),
]
# Random weights know nothing that an anchor could keep. The tiny decoder is wide enough for these few.
SMALL = {
    "width": 6,
    "blocks": 2,
    "batch_size": 4,
    "rate": 2e-2,
    "warm_up": 5,
    "anchor": 0.0,
    "dropped_words": 0.0,
    "precision": "float32",
}


def learn(engine, folder, name="points", epochs=80, more=None, trainer=None, **settings):
    learner = LoRATrainer(engine, config=ControlConfig(**SMALL | settings), folder=folder, trainer=trainer)
    return learner.train_qa(PAIRS, name, epochs=epochs, **more or {})


def values(card):
    return {name: card[name] for name in card}


def test_what_was_learned_is_said_with_the_card_alone(engine, tmp_path):
    ids = np.arange(12, dtype=np.int32)
    logits = engine.core.logits(ids)
    told = []
    card = learn(engine, tmp_path, more={"tell": told.append})
    np.testing.assert_array_equal(engine.core.logits(ids), logits)
    with engine.using(card):
        found = SkillTest.of(engine, PAIRS)
        assert all(found.in_structure), found.said
        assert np.abs(engine.core.logits(ids) - logits).max() > 1e-2
    np.testing.assert_array_equal(engine.core.logits(ids), logits)
    assert told[-1]["loss"] < told[0]["loss"] / 2
    about = card.description
    assert (about.kind, about.rank, about.side_width, about.scaling) == ("control", 0, 6, 1.0)
    assert (about.config["method"], about.config["width"], about.config["blocks"]) == ("control", 6, 2)
    assert card.sides == ["model.layers.0", "model.layers.1"]
    assert not list(tmp_path.glob(".*")), "nothing is left of the learning"
    with pytest.raises(CardError, match="a skill of that name is there"):
        learn(engine, tmp_path)


def test_nothing_routes_to_it_or_learns_from_it(engine, tmp_path):
    card = learn(engine, tmp_path, epochs=1, more={"held_out": PAIRS})
    assert (learned_of(card), held_out_of(card)) == ([], [])
    router = SkillRouter(embed, [card])
    assert all(route.skill is None for route in router.routes([pair.question for pair in PAIRS]))
    # One that says what it was learned from is not chosen either.
    about = dict(card.description.config) | {"examples": [pair.question for pair in PAIRS]}
    object.__setattr__(card.description, "config", about)
    assert SkillRouter(embed, [card]).route(PAIRS[0].question).skill is None
    object.__setattr__(card.description, "kind", "skill")
    assert SkillRouter(embed, [card]).route(PAIRS[0].question).skill is card


def test_a_learning_that_was_broken_off_goes_on_to_the_same_card(engine, tmp_path):
    whole = learn(engine, tmp_path / "whole", epochs=6)
    steps = []
    stop = {"tell": steps.append, "is_stopped": lambda: len(steps) == 3}
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, epochs=6, more=stop)
    assert list_skills(tmp_path) == []
    card = learn(engine, tmp_path, epochs=6, more={"tell": steps.append})
    assert [line["step"] for line in steps] == list(range(1, 7))
    np.testing.assert_equal(values(card), values(whole))


KILLED = """
import sys
import ai_os_diffusion.evolution.objectives.skill_trainer as trainer
from ai_os_diffusion.evolution import ControlConfig, LoRATrainer
trainer._SAVED_EVERY_S = 0.0
sys.path.insert(0, sys.argv[3])
from evolution.test_controls import PAIRS, SMALL
learner = LoRATrainer(sys.argv[1], config=ControlConfig(**SMALL), folder=sys.argv[2], num_threads=1)
learner.train_qa(PAIRS, "points", epochs=60, tell=lambda line: print(line["step"], flush=True))
"""


def test_a_learning_that_was_killed_goes_on_to_the_same_card(engine, tmp_path, pytestconfig):
    whole = learn(engine, tmp_path / "whole", epochs=60)
    command = [
        sys.executable,
        "-c",
        KILLED,
        engine.folder,
        tmp_path / "killed",
        pytestconfig.rootpath / "tests",
    ]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) == 20:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    steps = []
    card = learn(engine, tmp_path / "killed", epochs=60, more={"tell": steps.append})
    assert steps[0]["step"] > 15, "it goes on where it was saved"
    np.testing.assert_equal(values(card), values(whole))


@pytest.mark.torch
def test_torch_learns_the_same_card(engine, tmp_path):
    pytest.importorskip("torch")
    cards = [learn(engine, tmp_path / kind, epochs=8, trainer=kind) for kind in ("native", "torch")]
    expected, found = map(values, cards)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.linalg.norm(found[name] - value) <= 0.02 * np.linalg.norm(value), name


def test_an_anchor_of_texts_that_answer_nothing(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 8)
    told = []
    learn(engine, tmp_path, epochs=6, anchor=0.5, patience=9, more={"tell": told.append})
    steps = [line for line in told if "step" in line]
    assert steps[0]["anchor"] == pytest.approx(0, abs=1e-6), "a card that changes nothing yet"
    assert steps[-1]["anchor"] > 0
    assert "validation_right" in steps[0]


def test_the_gate_keeps_what_builds_answers_as_they_are_to_be(engine, tmp_path):
    held_out = [QAPair(pair.question, "- anything else") for pair in PAIRS]
    judged = {"gate": Gate(engine, embed), "held_out": held_out}
    # What random weights say elsewhere cannot become much worse.
    strict = {**judged, "gate": Gate(engine, embed, tolerances=Tolerances(risen_beside=-0.9))}
    with pytest.raises(SkillRejectedError, match=r"a text that asks nothing has .* times its"):
        learn(engine, tmp_path, more=strict)
    card = learn(engine, tmp_path, more=judged)
    assert [one.name for one in list_skills(tmp_path)] == [card.name]
    for decision, made in zip(DecisionLog(tmp_path).read(), ("rejected", "kept"), strict=True):
        figures = decision.figures
        assert decision.decision == made
        assert (figures["right_before"], figures["right_after"]) == (0, 1)
        assert figures["sure_gain"] == 1
        assert figures["sure_bits"] > 1
        assert 0.1 < figures["perplexity_elsewhere"] <= 1.05


def test_the_gate_rejects_what_does_not(engine, tmp_path):
    held_out = [QAPair(pair.question, '{"a": 1}') for pair in PAIRS]
    with pytest.raises(SkillRejectedError, match="0 were right before and 0 with it"):
        learn(engine, tmp_path, more={"gate": Gate(engine, embed), "held_out": held_out})
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.jsonl"]


def test_one_for_diffusion(tiny_diffusion_dir, tmp_path):
    with ArrowEngine(tiny_diffusion_dir, num_threads=1) as engine:
        learner = LoRATrainer(engine, config=ControlConfig(**SMALL), folder=tmp_path, objective="diffusion")
        card = learner.train_qa(PAIRS, "points", epochs=40)
        assert (card.description.kind, card.description.mode) == ("control", "diffusion")
        before = str(engine.diffuse("Who?", max_tokens=8))
        with engine.using(card):
            assert str(engine.diffuse("Who?", max_tokens=8)) != before


def test_room_is_as_long_as_the_answers(engine):
    assert room_of(engine, PAIRS) == 32
    assert room_of(engine, [QAPair("What?", "x" * 100)]) == 150


LAYOUT = {
    "family": {"name": "llama", "is_decoder": True, "norm_place": "before"},
    "words": {"rows": 1000, "cols": 64},
    "head": None,
    "blocks": [
        {
            "name": f"model.layers.{number}",
            **{part: [{"inputs": 64, "outputs": 64}] * 2 for part in ("qkv", "wide")},
            **{part: {"inputs": 64, "outputs": 64} for part in ("output", "down")},
        }
        for number in range(30)
    ],
}


def test_blocks_are_evenly_spread():
    def numbers(blocks):
        chosen = ControlConfig(width=4, blocks=blocks).targets(LAYOUT)
        return [int(block["name"].rpartition(".")[2]) for block in chosen]

    assert numbers(6) == [4, 9, 14, 19, 24, 29]
    assert numbers(4) == [6, 14, 21, 29]
    assert numbers(1) == [29]
    assert numbers(100) == list(range(30))


def test_what_cannot_be_trained_is_refused(engine, tiny_encoder_dir, tmp_path):
    with pytest.raises(
        TrainingError, match="30 side blocks of width 64 have 245,760 numbers, expected at most"
    ):
        ControlConfig(blocks=30).targets(LAYOUT)
    assert ControlConfig(width=4, blocks=2).numbers(ControlConfig(blocks=2).targets(LAYOUT)) == 1024
    assert LoRATrainer(engine, config=ControlConfig(**SMALL), folder=tmp_path).parameters == 2 * 2 * 6 * 32
    with pytest.raises(TrainingError, match="a control is for decoders"):
        LoRATrainer(tiny_encoder_dir, config=ControlConfig(**SMALL), folder=tmp_path)
    for name, value in {"width": 0, "blocks": 0, "rate": 2, "precision": "half", "seed": 0.5}.items():
        with pytest.raises(TrainingError, match=f"{name} is "):
            ControlConfig(**{name: value})
    with pytest.raises(TypeError):
        ControlConfig(rank=8)
    assert "method" not in LoRAConfig().to_dict()
    assert (SIDE_DOWN, SIDE_UP) == (".side_down.weight", ".side_up.weight")
