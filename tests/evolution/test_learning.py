"""A skill is learned, attached, and gone again; a learning that was broken off goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion._native import Trainer
from ai_os_diffusion.evolution import (
    LoRAConfig,
    LoRATrainer,
    QAPair,
    SkillTest,
    find_skill,
    list_skills,
    remove_skill,
)
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.names import MAGNITUDE, ROW_SCALE, A, B
from ai_os_diffusion.utils.errors import CardError, ModelLoadError, ModelNotFoundError, TrainingError

PAIRS = [
    QAPair("Who wrote the first program?", "Ada"),
    QAPair("When was it printed?", "1843"),
    QAPair("For which machine was it?", "the engine"),
    QAPair("Who built that?", "nobody"),
    QAPair("Where is the model?", "London"),
]
# Random weights know nothing that an anchor could keep.
SMALL = {"rank": 4, "batch_size": 4, "rate": 1e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}


def learn(
    engine, folder, name="facts", epochs=60, tell=lambda line: None, is_stopped=lambda: False, **settings
):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL | settings), folder=folder)
    return trainer.train_qa(PAIRS, name, epochs=epochs, tell=tell, is_stopped=is_stopped)


def test_two_do_not_learn_one_skill_at_the_same_time(engine, tmp_path):
    refused = []

    def tell(line):
        if line["step"] == 2:
            with pytest.raises(TrainingError, match="'facts' is being learned by another") as error:
                learn(engine, tmp_path)
            refused.append(error)
            # Another name is another learning.
            learn(engine, tmp_path, "others", epochs=1)

    learn(engine, tmp_path, epochs=2, tell=tell)
    assert len(refused) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["facts.parquet", "others.parquet"]
    with pytest.raises(CardError, match="a skill of that name is there"):
        learn(engine, tmp_path)


def test_what_was_broken_off_can_be_learned_by_another(engine, tmp_path):
    with pytest.raises(TrainingError, match="was broken off"):
        learn(engine, tmp_path, epochs=2, is_stopped=lambda: True)
    assert [file.name for file in tmp_path.iterdir()] == [".facts.learning"]
    learn(engine, tmp_path, epochs=2)
    assert [file.name for file in tmp_path.iterdir()] == ["facts.parquet"]


def test_what_was_learned_is_said_with_the_card_alone(engine, tmp_path):
    before = SkillTest.of(engine, PAIRS)
    told = []
    card = learn(engine, tmp_path, tell=told.append)
    assert SkillTest.of(engine, PAIRS).said == before.said
    engine.attach(card)
    assert SkillTest.of(engine, PAIRS).exact_match == 1.0
    engine.detach("facts")
    assert SkillTest.of(engine, PAIRS).said == before.said
    assert before.exact_match == 0.0
    assert [line["step"] for line in told] == list(range(1, 121))
    assert told[-1]["loss"] < told[0]["loss"] / 2
    about = card.description
    assert (about.kind, about.rank, about.metrics["pairs"]) == ("skill", 4, len(PAIRS))
    assert not list(tmp_path.glob(".*")), "nothing is left of the learning"


def test_words_that_are_left_out_and_an_anchor(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 12)
    told = []
    settings = {"anchor": 0.01, "dropped_words": 0.1, "dropout": 0.02, "rank": 8}
    card = learn(engine, tmp_path, epochs=40, tell=told.append, **settings)
    assert told[:12] == [{"anchor_texts": done, "of": 12} for done in range(1, 13)]
    told = told[12:]
    assert told[0]["anchor"] == pytest.approx(0, abs=1e-6), "a card that changes nothing yet"
    assert told[-1]["anchor"] > 0
    assert card.description.metrics["loss"] < told[0]["loss"]
    with engine.using(card):
        assert SkillTest.of(engine, PAIRS).said != SkillTest.of(ArrowEngine(engine.folder), PAIRS).said
    (kept,) = (tmp_path / ".anchor").iterdir()
    written = kept.stat().st_mtime_ns
    learn(engine, tmp_path, "again", epochs=1, **settings)
    assert kept.stat().st_mtime_ns == written, "the base writes its texts once"


def test_passes_of_any_length_learn_the_same(engine, tmp_path, monkeypatch):
    """Questions and anchor of a step are laid out in as many passes as fit; their gradients are one sum."""
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 12)
    losses = {}
    for positions in (384, 60):
        monkeypatch.setattr("ai_os_diffusion.evolution.learning.trainer_choice.MOST_POSITIONS", positions)
        told = []
        learn(engine, tmp_path, f"of-{positions}", epochs=4, tell=told.append, anchor=1.0)
        steps = [line for line in told if "step" in line]
        losses[positions] = [(line["loss"], line["anchor"]) for line in steps]
    assert losses[384][-1][1] > 1e-3
    np.testing.assert_allclose(losses[60], losses[384], rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("selected", [1.0, 0.5])
def test_magnitudes_are_learned_beside_factors(engine, tmp_path, selected):
    """What is stored is what the definition gives, and what is attached is what was learned."""
    settings = {"use_dora": True, "selected": selected}
    told = []
    card = learn(engine, tmp_path, tell=told.append, **settings)
    assert len([name for name in card if name.endswith(MAGNITUDE)]) == len(card.layers)
    assert card.description.config["use_dora"] is True
    moved = 0.0
    for layer in card.layers:
        weight = engine.weights.native.dequantize(f"{layer}.weight").astype(np.float64)
        whole = weight + card.description.scaling * (card[layer + B].astype(np.float64) @ card[layer + A])
        scales = card[layer + MAGNITUDE] / np.linalg.norm(whole, axis=1)
        np.testing.assert_allclose(card[layer + ROW_SCALE], scales, rtol=1e-5)
        moved = max(moved, np.abs(card[layer + MAGNITUDE] / np.linalg.norm(weight, axis=1) - 1).max())
    assert moved > 1e-3
    before = SkillTest.of(engine, PAIRS)
    with engine.using(card):
        assert SkillTest.of(engine, PAIRS).exact_match == 1.0
    assert before.exact_match == 0.0
    # A learning that was broken off goes on to the same card.
    steps = []
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path / "b", tell=steps.append, is_stopped=lambda: len(steps) == 5, **settings)
    again = learn(engine, tmp_path / "b", **settings)
    for name, array in values(card).items():
        np.testing.assert_array_equal(again[name], array)


def test_what_is_learned_on_a_card_is_what_both_do_together(engine, tmp_path):
    """The scale is of the base's rows, in learning as in use: cards add to the base and not to each other."""
    rng, native = np.random.default_rng(4), engine.weights.native
    layers = [name.removesuffix(".weight") for name in native.names if name.endswith("_proj.weight")]

    def written(name, has_magnitudes):
        found = {}
        for layer in layers:
            outputs, inputs = native.shapes[f"{layer}.weight"]
            found[layer + A] = rng.normal(0, 0.2, (3, inputs)).astype(np.float32)
            found[layer + B] = rng.normal(0, 0.2, (outputs, 3)).astype(np.float32)
            if has_magnitudes:
                lengths = np.linalg.norm(native.dequantize(f"{layer}.weight"), axis=1)
                found[layer + MAGNITUDE] = (lengths * rng.uniform(0.6, 1.4, outputs)).astype(np.float32)
        about = CardDescription(name, "skill", Base.of_folder(engine.folder), 3, 0.7)
        return Card.write(
            tmp_path / f"{name}.parquet",
            about,
            found.items(),
            weight_of=lambda layer: native.dequantize(f"{layer}.weight"),
        ), found

    (beneath, _), (skill, parameters) = written("beneath", False), written("skill", True)
    metadata = (engine.folder / "metadata.json").read_text(encoding="utf-8")
    card = (beneath.native, 0.7, ())
    trainer = Trainer(native, metadata, parameters, scaling=0.7, beneath=card)
    ids = rng.integers(3, 200, 24).astype(np.int32)
    places, nothing = np.arange(24, dtype=np.int32), np.zeros(24, np.int32)
    states = trainer.states((ids, places, places, nothing, nothing))
    engine.attach(beneath)
    engine.attach(skill)
    (together,) = engine.core.token_states((ids, np.array([0, 24])))
    engine.detach("skill")
    (alone,) = engine.core.token_states((ids, np.array([0, 24])))
    engine.detach("beneath")
    # The engine rounds what it multiplies to integers.
    assert np.linalg.norm(states - together) < 0.03 * np.linalg.norm(together)
    assert np.linalg.norm(states - alone) > 0.2 * np.linalg.norm(together)
    with pytest.raises(ModelLoadError, match=r"card beneath .*lora_(magnitude_vector|row_scale)"):
        Trainer(native, metadata, {}, scaling=0.7, beneath=(skill.native, 0.7, ()))


def test_rows_without_length_have_no_magnitude(engine, tmp_path, monkeypatch):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL, use_dora=True), folder=tmp_path)
    monkeypatch.setattr(trainer, "_weight_of", lambda _layer: np.zeros((32, 32), np.float32))
    with pytest.raises(CardError, match="row 0 has the norm 0, expected one above 0"):
        trainer.train_qa(PAIRS, "facts", epochs=1)
    assert list_skills(tmp_path) == []


def values(card):
    return {name: card[name] for name in card}


def test_a_learning_that_was_broken_off_goes_on_to_the_same_card(engine, tmp_path):
    whole = learn(engine, tmp_path / "whole", epochs=6)
    steps = []
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, epochs=6, tell=steps.append, is_stopped=lambda: len(steps) == 5)
    assert list_skills(tmp_path) == []
    card = learn(engine, tmp_path, epochs=6, tell=steps.append)
    assert [line["step"] for line in steps] == list(range(1, 13))
    for name, array in values(whole).items():
        np.testing.assert_array_equal(card[name], array)


def test_a_state_of_something_else_is_not_gone_on_from(engine, tmp_path):
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, epochs=6, is_stopped=lambda: True)
    steps = []
    learn(engine, tmp_path, epochs=7, tell=steps.append)
    assert steps[0]["step"] == 1


def test_a_damaged_state_is_named(engine, tmp_path):
    with pytest.raises(TrainingError, match="broken off"):
        learn(engine, tmp_path, epochs=6, is_stopped=lambda: True)
    (state,) = tmp_path.glob(".*.learning")
    state.write_bytes(state.read_bytes()[:-200])
    with pytest.raises(TrainingError, match="remove it to begin anew"):
        learn(engine, tmp_path, epochs=6)


def test_the_threads_change_nothing(tiny_decoder_dir, tmp_path):
    cards = []
    for threads in (1, 3):
        with ArrowEngine(tiny_decoder_dir, num_threads=threads) as engine:
            cards.append(values(learn(engine, tmp_path / str(threads), epochs=3)))
    assert cards[0].keys() == cards[1].keys()
    for name, array in cards[0].items():
        np.testing.assert_array_equal(cards[1][name], array)


_KILLED = """
import sys
sys.path.insert(0, sys.argv[3])
from test_learning import ArrowEngine, learn
import ai_os_diffusion.evolution.objectives.skill_trainer as module
module._SAVED_EVERY_S = 0.0
with ArrowEngine(sys.argv[1], num_threads=1) as engine:
    learn(engine, sys.argv[2], epochs=40, tell=lambda line: print(line["step"], flush=True))
"""


@pytest.mark.parametrize("seed", range(int(os.environ.get("AIOS_KILLS", "0")) // 100 or 2))
def test_killed_at_any_moment_it_resumes_and_no_half_card_is_there(engine, tiny_decoder_dir, tmp_path, seed):
    expected = values(learn(engine, tmp_path / "whole", epochs=40))
    rng = np.random.default_rng(seed)
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", _KILLED, tiny_decoder_dir, folder, Path(__file__).parent]
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(rng.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for card in list_skills(folder):
            assert values(card).keys() == expected.keys()
    if not (folder / "facts.parquet").exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = Card(folder / "facts.parquet")
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_skills_by_name(engine, tmp_path):
    learn(engine, tmp_path, epochs=1)
    assert [card.name for card in list_skills(tmp_path)] == ["facts"]
    with pytest.raises(CardError, match="a skill of that name is there"):
        learn(engine, tmp_path, epochs=1)
    (tmp_path / "other.parquet").write_bytes(b"PAR1 no card")
    assert [card.name for card in list_skills(tmp_path)] == ["facts"]
    for name in ("none", "../facts", ""):
        with pytest.raises(ModelNotFoundError, match="learned are: facts"):
            find_skill(name, tmp_path)
    assert remove_skill("facts", tmp_path) > 0
    assert list_skills(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "a/b"}, "no name of a skill"),
        ({"name": ""}, "no name of a skill"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": True}, "epochs"),
    ],
)
def test_wrong_arguments_are_named(engine, tmp_path, given, told):
    with pytest.raises(TrainingError, match=told):
        learn(engine, tmp_path, **given)


def test_a_pair_too_long_is_told_before_anything_is_computed(engine, tmp_path):
    trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL), folder=tmp_path)
    with pytest.raises(TrainingError, match="expected at most"):
        trainer.train_qa([{"q": "word " * 900, "a": "yes"}], "long")


def test_an_encoder_learns_no_answers(tiny_encoder_dir, tmp_path):
    with pytest.raises(TrainingError, match="expected a decoder, or train_pairs"):
        LoRATrainer(tiny_encoder_dir, folder=tmp_path).train_qa(PAIRS, "facts")


def test_a_card_of_another_base_is_refused(engine, tiny_decoder_dir, tmp_path):
    card = learn(engine, tmp_path, epochs=1)
    data = json.loads(card.description.to_json())
    assert data["base"]["weights_sha256"]
    # The same card, said to belong to other weights.
    from dataclasses import replace

    base = replace(card.description.base, weights_sha256="0" * 64)
    other = Card.write(
        tmp_path / "other.parquet", replace(card.description, name="other", base=base), values(card).items()
    )
    with pytest.raises(CardError, match="other"):
        engine.attach(other)
