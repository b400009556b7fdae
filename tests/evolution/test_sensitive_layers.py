"""A skill in the few layers that its answers are most sensitive to."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ai_os_diffusion import _native
from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, QAPair, QAPairs, SkillTest
from ai_os_diffusion.evolution.learning.sensitive_layers import layer_sensitivities, most_sensitive
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.cards.names import A
from ai_os_diffusion.utils.errors import TrainingError

PAIRS = [
    QAPair("Who wrote the first program?", "Ada"),
    QAPair("When was it printed?", "1843"),
    QAPair("For which machine was it?", "the engine"),
    QAPair("Who built that?", "nobody"),
]
SMALL = {"batch_size": 4, "rate": 1e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}


def learner(engine, folder, objective=None, **settings):
    config = LoRAConfig(**SMALL | {"rank": 16, "selected": 0.3} | settings)
    return LoRATrainer(engine, config=config, folder=folder, objective=objective)


def layers_of(card):
    return [name.removesuffix(A) for name in card if name.endswith(A)]


def test_layers_by_what_they_are_worth_for_each_number():
    layers = [
        {"name": "wide", "inputs": 30, "outputs": 70},
        {"name": "first", "inputs": 10, "outputs": 10},
        {"name": "second", "inputs": 10, "outputs": 10},
        {"name": "third", "inputs": 10, "outputs": 10},
    ]
    worth = {"wide": 30.0, "first": 1.0, "second": 9.0, "third": 8.0}

    def chosen(part):
        return [layer["name"] for layer in most_sensitive(layers, worth, part)]

    assert chosen(0.25) == ["second", "third"]
    # What is too large for what is left is passed by.
    assert chosen(0.4) == ["first", "second", "third"]
    assert chosen(0.9) == ["wide", "second", "third"]
    assert chosen(1e-6) == ["second"]


@pytest.mark.parametrize("objective", ["causal", "diffusion"])
def test_what_was_learned_is_said_by_few_layers(tiny_diffusion_dir, tmp_path, objective):
    mode = "ar" if objective == "causal" else "diffusion"
    with ArrowEngine(tiny_diffusion_dir, num_threads=2) as engine:
        before = SkillTest.of(engine, PAIRS, mode)
        trainer = learner(engine, tmp_path, objective)
        card = trainer.train_qa(PAIRS, "facts", epochs=150)
        chosen, known = layers_of(card), [layer["name"] for layer in trainer._targets]
        assert 1 <= len(chosen) < len(known) / 2
        assert sum(card[name].size for name in card) <= trainer.parameters
        with engine.using(card):
            after = SkillTest.of(engine, PAIRS, mode)
        assert (before.exact_match, after.exact_match) == (0.0, 1.0)
        assert SkillTest.of(engine, PAIRS, mode).said == before.said


def test_a_learning_that_was_broken_off_goes_on_with_its_layers(engine, tmp_path):
    whole = learner(engine, tmp_path / "whole").train_qa(PAIRS, "facts", epochs=6)
    steps = []
    with pytest.raises(TrainingError, match="broken off"):
        learner(engine, tmp_path).train_qa(
            PAIRS, "facts", epochs=6, tell=steps.append, is_stopped=lambda: len(steps) == 3
        )
    card = learner(engine, tmp_path).train_qa(PAIRS, "facts", epochs=6, tell=steps.append)
    assert [line["step"] for line in steps] == list(range(1, 7))
    assert layers_of(card) == layers_of(whole)
    for name in whole:
        np.testing.assert_array_equal(card[name], whole[name])


@pytest.mark.torch
def test_sensitivities_are_squares_of_gradients_of_weights(engine, tmp_path):
    pytest.importorskip("torch")
    from ai_os_diffusion.training.torch.skills.card_trainer import CardTrainer

    trainer = learner(engine, tmp_path, rank=32, selected=1.0, precision="float32")
    layers = trainer._targets
    samples = [list(trainer._objective_of(QAPairs.of([pair])).looked_at()) for pair in PAIRS]
    found = layer_sensitivities(trainer._new_trainer(), samples, layers)
    metadata = (engine.folder / "metadata.json").read_text(encoding="utf-8")
    assert json.loads(_native.layout_json(metadata))["blocks"]
    file = engine.weights.native
    weights = {layer["name"] + ".weight": file.dequantize(layer["name"] + ".weight") for layer in layers}
    exact = CardTrainer(file, metadata, weights, scaling=1.0)
    expected = dict.fromkeys(found, 0.0)
    for (part,) in samples:
        exact.accumulate(part.batch, part.weights / part.weights.sum(), labels=part.labels)
        for name, gradient in exact.gradients().items():
            expected[name.removesuffix(".weight")] += float((gradient.astype(np.float64) ** 2).sum()) / len(
                PAIRS
            )
        exact.step(0.0)
    ratios = np.array([found[name] / expected[name] for name in found])
    # Of 32 directions that are drawn.
    assert ratios.std() < 0.3 * ratios.mean()
    ours, theirs = (sorted(one, key=one.get)[-5:] for one in (found, expected))
    assert len(set(ours) & set(theirs)) >= 4
