"""Side blocks learn natively as they do by torch, of every family and precision."""

from __future__ import annotations

import json

import numpy as np
import pytest

from support.side_blocks import side_blocks

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from ai_os_diffusion import _native  # noqa: E402
from ai_os_diffusion.training.torch.skills.card_trainer import CardTrainer  # noqa: E402
from ai_os_diffusion.utils.errors import TrainingError  # noqa: E402

HIDDEN = 32
LAYER = "model.layers.1.mlp.up_proj"
DOWN, UP = "model.layers.1.side_down.weight", "model.layers.1.side_up.weight"


def trainers(folder, parameters, **settings):
    file = _native.WeightFile(folder / "weights.parquet")
    metadata = (folder / "metadata.json").read_text(encoding="utf-8")
    return [
        kind(file, metadata, parameters, scaling=0.7, **settings) for kind in (_native.Trainer, CardTrainer)
    ]


def with_factors(folder):
    """Side blocks behind both blocks, and factors of one layer beside them."""
    layout = json.loads(_native.layout_json((folder / "metadata.json").read_text(encoding="utf-8")))
    up = layout["blocks"][1]["wide"][1]
    rng = np.random.default_rng(4)
    factors = {
        f"{LAYER}.lora_A.weight": rng.normal(size=(2, up["inputs"])).astype(np.float32) * 0.3,
        f"{LAYER}.lora_B.weight": rng.normal(size=(up["outputs"], 2)).astype(np.float32) * 0.3,
    }
    return side_blocks(HIDDEN, (0, 1), 3) | factors


def asked():
    rng = np.random.default_rng(5)
    lengths = (9, 14)
    places = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    nothing = np.zeros_like(places)
    document = np.repeat(np.arange(2, dtype=np.int32), lengths)
    ids, labels = rng.integers(3, 250, (2, len(places))).astype(np.int32)
    weights = np.where(places > 3, rng.random(len(places)) + 0.1, 0).astype(np.float32)
    return (ids, places, places, nothing, document), weights / weights.sum(), labels


def assert_near(found, expected, share):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        length = np.linalg.norm(value)
        assert length > 0, name
        assert np.linalg.norm(found[name] - value) <= share * length, name


def test_losses_gradients_and_the_anchor(family_dir):
    native, reference = trainers(family_dir, with_factors(family_dir))
    batch, weights, labels = asked()
    losses = [float(one.accumulate(batch, weights, labels=labels)) for one in (native, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_near(native.gradients(), reference.gradients(), 1e-4)
    rows = np.flatnonzero(weights)
    states = [one.base_states(batch, rows) for one in (native, reference)]
    np.testing.assert_allclose(*states, atol=1e-4)
    losses = [float(one.accumulate(batch, weights, base=states[0])) for one in (native, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] > 1e-3
    assert_near(native.gradients(), reference.gradients(), 1e-4)


def test_the_base_says_what_it_says_without_them(family_dir):
    batch, weights, _ = asked()
    rows = np.flatnonzero(weights)
    alone = trainers(family_dir, {})[0].base_states(batch, rows)
    for trainer in trainers(family_dir, side_blocks(HIDDEN, (1,), 3)):
        np.testing.assert_allclose(trainer.base_states(batch, rows), alone, atol=1e-4)
        assert np.abs(trainer.states(batch)[rows] - alone).max() > 1e-2


@pytest.mark.parametrize("brain_floats", [False, True])
def test_steps(family_dir, brain_floats):
    begun = {
        name: value * np.float32("side_up" not in name)
        for name, value in side_blocks(HIDDEN, (0, 1), 3).items()
    }
    pair = trainers(family_dir, begun, brain_floats=brain_floats)
    batch, weights, labels = asked()
    for trainer in pair:
        before = float(trainer.accumulate(batch, weights, labels=labels))
        for _ in range(4):
            trainer.step(1e-2)
            after = float(trainer.accumulate(batch, weights, labels=labels))
        assert after < before
    # Adam divides small gradients by themselves, so that their rounding shows: a number may turn around.
    assert_near(pair[0].parameters(), pair[1].parameters(), 0.2 if brain_floats else 1e-3)


def test_what_does_not_fit_is_refused(family_dir):
    narrow, wide = np.ones((3, HIDDEN), np.float32), np.ones((HIDDEN, 3), np.float32)
    for parameters, told in (
        ({DOWN: narrow}, "both matrices, side_down and side_up"),
        ({UP: wide}, "both matrices, side_down and side_up"),
        ({DOWN: narrow, UP: narrow}, "expected"),
        ({DOWN.replace("1", "2"): narrow, UP.replace("1", "2"): wide}, "nothing of that name"),
    ):
        file = _native.WeightFile(family_dir / "weights.parquet")
        metadata = (family_dir / "metadata.json").read_text(encoding="utf-8")
        for kind in (_native.Trainer, CardTrainer):
            with pytest.raises(TrainingError, match=told):
                kind(file, metadata, parameters, scaling=1.0)
