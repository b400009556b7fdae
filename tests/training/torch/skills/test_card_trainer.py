"""Both trainers of cards are one: losses, gradients, steps and states of torch are the native ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from ai_os_diffusion import _native  # noqa: E402
from ai_os_diffusion.evolution import LoRAConfig  # noqa: E402
from ai_os_diffusion.models.cards import Base, Card, CardDescription  # noqa: E402
from ai_os_diffusion.models.cards.names import MAGNITUDE, ROWS, A, B  # noqa: E402
from ai_os_diffusion.training.torch.skills.card_batch import padded  # noqa: E402
from ai_os_diffusion.training.torch.skills.card_trainer import CardTrainer  # noqa: E402
from ai_os_diffusion.utils.errors import DeviceError, ModelLoadError, TrainingError  # noqa: E402

ROW_IDS, SCALING, RANK = (258, 257), 1.3, 4
TOLERANCE = 1e-4
"""Of the length of a gradient."""


def of_folder(folder):
    """A weight file, the text of its metadata, and the layout that it describes."""
    metadata = (folder / "metadata.json").read_text(encoding="utf-8")
    return (
        _native.WeightFile(folder / "weights.parquet"),
        metadata,
        json.loads(_native.layout_json(metadata)),
    )


def random_factors(layers, rng, rank=RANK, has_magnitudes=False):
    found = {}
    for layer in layers:
        if has_magnitudes:
            found[layer["name"] + MAGNITUDE] = rng.uniform(0.5, 1.5, layer["outputs"]).astype(np.float32)
        found[layer["name"] + A] = rng.normal(0, 0.2, (rank, layer["inputs"])).astype(np.float32)
        found[layer["name"] + B] = rng.normal(0, 0.2, (layer["outputs"], rank)).astype(np.float32)
    return found


def random_parameters(layout, rng, has_magnitudes=False):
    """Factors of some layers, some norms, and two rows; and magnitudes."""
    width = layout["words"]["cols"]
    chosen = [layer for block in layout["blocks"] for layer in (block["qkv"][1], *block["wide"])]
    found = random_factors([*chosen, layout["blocks"][1]["down"]], rng, has_magnitudes=has_magnitudes)
    for norm in (layout["blocks"][0]["feed_forward_norm"], layout["final_norm"]):
        found[norm["name"] + ".weight"] = (1 + rng.normal(0, 0.1, width)).astype(np.float32)
    found[layout["words"]["name"] + ROWS] = rng.normal(0, 0.3, (2, width)).astype(np.float32)
    return found


def causal(rng):
    """Two texts that share their beginning, and one alone."""
    places = np.concatenate([np.arange(5), np.arange(5, 14), np.arange(5, 10), np.arange(6)])
    copy = np.repeat([0, 1, 2, 0], [5, 9, 5, 6])
    document = np.repeat([0, 1], [19, 6])
    weights = np.where(places > 3, rng.random(len(places)) + 0.1, 0)
    return places, places, copy, document, weights


def masked(rng):
    """A prompt of six and two copies of a block of five."""
    places = np.concatenate([np.arange(6), np.arange(6, 11), np.arange(6, 11)])
    level = (places >= 6).astype(int)
    copy = np.repeat([0, 1, 2], [6, 5, 5])
    weights = np.where((places + copy) % 2 * (copy > 0), rng.random(len(places)) + 0.1, 0)
    return places, level, copy, np.zeros_like(places), weights


def asked(laid_out, seed=5):
    """A batch, the weights of its positions, and labels."""
    rng = np.random.default_rng(seed)
    places, level, copy, document, weights = laid_out(rng)
    ids, labels = rng.integers(3, 250, (2, len(places)))
    ids[:2] = ROW_IDS
    batch = tuple(np.ascontiguousarray(one, np.int32) for one in (ids, places, level, copy, document))
    return batch, (weights / weights.sum()).astype(np.float32), labels.astype(np.int32)


def assert_same_gradients(ours, theirs, tolerance=TOLERANCE):
    found, expected = ours.gradients(), theirs.gradients()
    assert list(found) == list(expected)
    for name, gradient in expected.items():
        length = np.linalg.norm(gradient)
        assert length > 0, name
        assert np.linalg.norm(found[name] - gradient) <= tolerance * length, name


@pytest.fixture
def pair(family_dir):
    """Makes both trainers of the same parameters."""

    def make(has_magnitudes=False, **settings):
        file, metadata, layout = of_folder(family_dir)
        parameters = random_parameters(layout, np.random.default_rng(3), has_magnitudes)
        return [
            kind(file, metadata, parameters, scaling=SCALING, row_ids=ROW_IDS, **settings)
            for kind in (CardTrainer, _native.Trainer)
        ]

    return make


@pytest.mark.parametrize("laid_out", [causal, masked])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("has_magnitudes", [False, True])
def test_gradients_of_labels(pair, laid_out, dropout, has_magnitudes):
    ours, theirs = pair(has_magnitudes, dropout=dropout)
    batch, weights, labels = asked(laid_out)
    for row, seed in ((0, 7), (len(weights), 8)):
        losses = [
            float(one.accumulate(batch, weights, labels=labels, first_row=row, seed=seed))
            for one in (ours, theirs)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_same_gradients(ours, theirs)
    found, expected = (one.measure(batch, weights, labels=labels) for one in (ours, theirs))
    assert found == (pytest.approx(expected[0], rel=1e-5), expected[1])


@pytest.mark.parametrize("laid_out", [causal, masked])
@pytest.mark.parametrize("has_magnitudes", [False, True])
def test_an_anchor_to_the_model_itself(pair, laid_out, has_magnitudes):
    ours, theirs = pair(has_magnitudes)
    batch, weights, _ = asked(laid_out)
    rows = np.flatnonzero(weights)
    states, expected = (one.base_states(batch, rows) for one in (ours, theirs))
    np.testing.assert_allclose(states, expected, atol=2e-5)
    losses = [float(one.accumulate(batch, weights, base=expected)) for one in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("has_magnitudes", [False, True])
def test_a_card_beneath_belongs_to_the_model(family_dir, tmp_path, has_magnitudes):
    file, metadata, layout = of_folder(family_dir)
    rng, width = np.random.default_rng(9), layout["words"]["cols"]
    layers = [
        layer for block in layout["blocks"] for layer in (*block["qkv"], block["output"], block["down"])
    ]
    beneath = random_factors(layers, rng, rank=5)
    beneath[layout["words"]["name"] + ROWS] = rng.normal(0, 0.3, (2, width)).astype(np.float32)
    beneath[layout["blocks"][0]["attention_norm"]["name"] + ".weight"] = np.full(width, 1.1, np.float32)
    about = CardDescription(
        "mode",
        "diffusion",
        Base("tiny", json.loads(metadata)["architecture"], "0" * 64),
        5,
        0.7,
        row_ids=ROW_IDS,
    )
    card = Card.write(tmp_path / "mode.parquet", about, beneath.items())
    trained = [block["qkv"][1] for block in layout["blocks"]]
    parameters = random_factors(trained, rng, has_magnitudes=has_magnitudes)
    ours, theirs = (
        kind(file, metadata, parameters, scaling=SCALING, beneath=(card.native, 0.7, ROW_IDS))
        for kind in (CardTrainer, _native.Trainer)
    )
    batch, weights, labels = asked(masked)
    losses = [float(one.accumulate(batch, weights, labels=labels)) for one in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_same_gradients(ours, theirs)
    rows = np.arange(len(weights))
    np.testing.assert_allclose(ours.base_states(batch, rows), theirs.base_states(batch, rows), atol=2e-5)
    with pytest.raises(ModelLoadError, match="the card beneath has"):
        CardTrainer({}, metadata, {}, scaling=1.0, beneath=(card.native, 0.7, ROW_IDS))


def test_steps_and_their_state(pair):
    ours, theirs = pair()
    batch, weights, labels = asked(causal)
    for number in range(3):
        lengths = []
        for one in (ours, theirs):
            one.accumulate(batch, weights, labels=labels, seed=number)
            lengths.append(one.step(1e-2, weight_decay=0.1, clip=0.5))
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
        assert lengths[0] > 0.5, "gradients are cut"
    assert ours.steps == theirs.steps == 3
    assert not any(gradient.any() for gradient in ours.gradients().values())
    for name, array in theirs.parameters().items():
        # Early steps of Adam are as long as the rate, whatever is left of a gradient near zero.
        np.testing.assert_allclose(ours.parameters()[name], array, atol=2e-4, err_msg=name)
    state = theirs.state()
    ours.restore(3, state)
    for name, moments in ours.state().items():
        for found, expected in zip(moments, state[name], strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(TrainingError, match="expected"):
        ours.restore(3, dict(list(state.items())[1:]))


def test_it_goes_on_where_it_was(pair):
    batch, weights, labels = asked(causal)

    def learn(trainer, steps):
        for number in steps:
            trainer.accumulate(batch, weights, labels=labels, seed=number)
            trainer.step(1e-2)
        return trainer

    whole, begun, again = (pair(dropout=0.2)[0] for _ in range(3))
    learn(whole, range(4))
    learn(begun, range(2))
    again.restore(begun.steps, begun.state())
    learn(again, range(2, 4))
    for name, array in whole.parameters().items():
        np.testing.assert_array_equal(again.parameters()[name], array)


@pytest.mark.parametrize("has_magnitudes", [False, True])
def test_brain_floats_round_as_natively(pair, has_magnitudes):
    exact, (ours, theirs) = pair(has_magnitudes)[0], pair(has_magnitudes, brain_floats=True)
    batch, weights, labels = asked(causal)
    losses = [float(one.accumulate(batch, weights, labels=labels)) for one in (exact, ours, theirs)]
    assert losses[0] == pytest.approx(losses[2], rel=0.02)
    assert abs(losses[1] - losses[2]) < abs(losses[0] - losses[2]) / 4
    assert_same_gradients(ours, theirs, tolerance=0.05)


def test_weights_are_trained_in_the_place_of_the_base(family_dir):
    """The gradient of all weights, in the direction of a step, is the slope of the loss."""
    file, metadata, _ = of_folder(family_dir)
    parameters = {name: file.dequantize(name) for name in file.names}
    trainer = CardTrainer(file, metadata, parameters, scaling=1.0)
    batch, weights, labels = asked(causal)
    before = float(trainer.accumulate(batch, weights, labels=labels))
    gradients = trainer.gradients()
    assert all(np.linalg.norm(gradient) > 0 for gradient in gradients.values())
    length = np.sqrt(sum(float((gradient.astype(np.float64) ** 2).sum()) for gradient in gradients.values()))
    step = 2e-3 / length
    moved = [
        CardTrainer(
            file,
            metadata,
            {name: array + side * step * gradients[name] for name, array in parameters.items()},
            scaling=1.0,
        ).measure(batch, weights, labels=labels)[0]
        for side in (1, -1)
    ]
    assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(length**2, rel=0.01)
    rows = np.flatnonzero(weights)
    states = trainer.base_states(batch, rows)
    trainer.step(1e-2)
    np.testing.assert_array_equal(trainer.base_states(batch, rows), states)
    assert float(trainer.accumulate(batch, weights, labels=labels)) < before
    # What the model itself says is no longer what is said now, head and all.
    assert float(trainer.accumulate(batch, weights, base=states)) > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("has_magnitudes", [False, True])
def test_encoders(tiny_encoder_dir, dropout, has_magnitudes):
    file, metadata, layout = of_folder(tiny_encoder_dir)
    rng = np.random.default_rng(2)
    parameters = random_factors(LoRAConfig().targets(layout), rng, has_magnitudes=has_magnitudes)
    ours, theirs = (
        kind(file, metadata, parameters, scaling=SCALING, dropout=dropout)
        for kind in (CardTrainer, _native.Trainer)
    )
    lengths = np.array([9, 14, 4])
    ids = rng.integers(3, layout["words"]["rows"], lengths.sum()).astype(np.int32)
    places = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    nothing = np.zeros_like(ids)
    batch = (ids, places, nothing, nothing, np.repeat(np.arange(3, dtype=np.int32), lengths))
    states, expected = (one.states(batch, first_row=3, seed=4) for one in (ours, theirs))
    np.testing.assert_allclose(states, expected, atol=1e-4)
    rows = np.array([0, 5, 26])
    np.testing.assert_allclose(ours.base_states(batch, rows), theirs.base_states(batch, rows), atol=1e-4)
    gradient = rng.normal(size=states.shape).astype(np.float32)
    losses = [float(one.accumulate_states(batch, gradient, first_row=3, seed=4)) for one in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-3)
    assert_same_gradients(ours, theirs)
    with pytest.raises(TrainingError, match="an encoder writes no tokens"):
        ours.accumulate(batch, np.ones(len(ids), np.float32), labels=ids)


@pytest.mark.parametrize("laid_out", [causal, masked])
@pytest.mark.parametrize("size", [2, 3, 30])
def test_shares_of_processes_are_the_whole(pair, laid_out, size):
    """Whatever part of a batch each computes, their gradients add up to those of one."""

    class Member:
        def __init__(self, number):
            self.number, self.size, self.device = number, size, torch.device("cpu")

        def add_up(self, tensor):
            pass

    whole, first = pair(dropout=0.2)[0], pair(dropout=0.2)[0]
    batch, weights, labels = asked(laid_out)
    rows = np.flatnonzero(weights)
    base = whole.base_states(batch, rows) + np.float32(0.1)
    losses = [0.0, 0.0]
    for trainer, place, members in ((whole, 0, [None]), (first, 1, map(Member, range(size)))):
        for trainer._team in members:
            losses[place] += float(trainer.accumulate(batch, weights, labels=labels, first_row=3, seed=2))
            losses[place] += float(trainer.accumulate(batch, weights, base=base, first_row=3, seed=2))
            losses[place] += float(trainer.accumulate_states(batch, states_like(batch), seed=2))
            losses[place] += trainer.measure(batch, weights, labels=labels)[0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_same_gradients(first, whole)


def states_like(batch):
    return np.random.default_rng(1).normal(0, 0.1, (len(batch[0]), 32)).astype(np.float32)


def test_what_is_wrong_is_named(family_dir, tiny_encoder_dir):
    file, metadata, layout = of_folder(family_dir)
    name = layout["blocks"][0]["down"]["name"]
    one, two = np.zeros((2, 64), np.float32), np.zeros((32, 2), np.float32)
    for parameters, told in (
        ({"strange": one}, "the base has nothing of that name"),
        ({name + A: one}, "expected both factors"),
        ({name + MAGNITUDE: np.ones(32, np.float32)}, "a magnitude, expected both factors"),
        ({name + A: one, name + B: one}, r"expected \[32, 2\], got \[2, 64\]"),
        ({layout["words"]["name"] + ROWS: two}, "cannot be trained"),
    ):
        with pytest.raises(TrainingError, match=told):
            CardTrainer(file, metadata, parameters, scaling=1.0)
    with pytest.raises(TrainingError, match="dropout"):
        CardTrainer(file, metadata, {}, scaling=1.0, dropout=1.0)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="sees no GPU"):
            CardTrainer(file, metadata, {}, scaling=1.0, device="cuda")
    trainer = CardTrainer(file, metadata, {name + A: one, name + B: two}, scaling=1.0)
    batch, weights, labels = asked(causal)
    for changed, told in (
        ({"batch": (batch[0] + 300, *batch[1:])}, "token"),
        ({"batch": (batch[0], batch[1] - 1, *batch[2:])}, "position"),
        ({"batch": (batch[0][1:], *batch[1:])}, "the same number"),
        ({"weights": weights[1:]}, "weights"),
        ({"weights": -weights}, "less than 0"),
        ({"labels": labels + 300}, "labels"),
        ({"labels": None}, "one of them"),
        ({"labels": None, "base": np.zeros((1, 32), np.float32)}, "expected states"),
    ):
        given = {"batch": batch, "weights": weights, "labels": labels, **changed}
        with pytest.raises(TrainingError, match=told):
            trainer.accumulate(given.pop("batch"), given.pop("weights"), **given)
    trainer.accumulate(batch, weights, labels=labels)
    trainer._optimizer.gradients[0] = float("nan")
    with pytest.raises(TrainingError, match="gradients are not finite"):
        trainer.step(1e-3)
    assert trainer.steps == 0


@pytest.mark.parametrize("laid_out", [causal, masked])
def test_positions_of_no_document_change_nothing(pair, laid_out):
    ours, theirs = pair(dropout=0.3)[0], pair(dropout=0.3)[0]
    batch, weights, labels = asked(laid_out)
    longer, places, (counted, wanted) = padded(batch, np.arange(len(weights)), (weights, labels))
    assert len(places) == len(counted) == 128
    assert all(len(part) == 128 for part in longer)
    losses = [
        float(ours.accumulate(batch, weights, labels=labels, seed=7)),
        float(theirs.accumulate(longer, counted, labels=wanted, seed=7)),
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_same_gradients(theirs, ours)


@pytest.mark.gpu
@pytest.mark.parametrize("laid_out", [causal, masked])
def test_captured_passes_are_those_that_are_launched(family_dir, laid_out):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    file, metadata, layout = of_folder(family_dir)
    parameters = random_parameters(layout, np.random.default_rng(3))
    trainers = [
        CardTrainer(file, metadata, parameters, scaling=SCALING, row_ids=ROW_IDS, dropout=0.3, device=device)
        for device in ("cpu", "cuda")
    ]
    for seed in range(5):
        batch, weights, labels = asked(laid_out, seed)
        rows = np.flatnonzero(weights)
        for trainer in trainers:
            trainer.accumulate(batch, weights, labels=labels, first_row=seed, seed=seed)
            states = trainer.base_states(batch, rows)
            trainer.accumulate(batch, weights, base=states, first_row=seed, seed=seed)
        assert_same_gradients(trainers[1], trainers[0], tolerance=1e-3)
        assert trainers[1].step(1e-3) == pytest.approx(trainers[0].step(1e-3), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("laid_out", [causal, masked])
def test_on_a_gpu(family_dir, laid_out):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    file, metadata, layout = of_folder(family_dir)
    parameters = random_parameters(layout, np.random.default_rng(3))
    batch, weights, labels = asked(laid_out)
    found = []
    for device in ("cpu", "cuda", "cuda"):
        settings = {"scaling": SCALING, "row_ids": ROW_IDS, "dropout": 0.3, "device": device}
        trainer = CardTrainer(file, metadata, parameters, **settings)
        states = trainer.base_states(batch, np.flatnonzero(weights))
        trainer.accumulate(batch, weights, labels=labels, first_row=3, seed=7)
        trainer.accumulate(batch, weights, base=states, first_row=3, seed=7)
        found.append(trainer)
    assert_same_gradients(found[1], found[0], tolerance=1e-3)
    for name, gradient in found[1].gradients().items():
        np.testing.assert_array_equal(found[2].gradients()[name], gradient)
    assert found[1].step(1e-3) == pytest.approx(found[0].step(1e-3), rel=1e-3)
