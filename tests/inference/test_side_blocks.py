"""Side blocks act where their card is in use, on either backend, and leave the base to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.utils.errors import CardError
from support.side_blocks import side_blocks, write_control

IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32)


@pytest.fixture
def engine(tiny_decoder_dir, backend):
    with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu", num_threads=1) as engine:
        yield engine


def test_it_acts_and_leaves_nothing(engine, tmp_path):
    before = engine.core.logits(IDS)
    begun = write_control(engine, tmp_path, "begun", scale=0.0)
    learned = write_control(engine, tmp_path, "learned")
    with engine.using(begun):
        np.testing.assert_array_equal(engine.core.logits(IDS), before)
    engine.attach(learned)
    with_it = engine.core.logits(IDS)
    assert np.abs(with_it - before).max() > 1e-2
    engine.detach("learned")
    np.testing.assert_array_equal(engine.core.logits(IDS), before)
    with engine.using(learned, weight=0.5):
        half = engine.core.logits(IDS)
    with engine.using(write_control(engine, tmp_path, "halved", scale=0.5)):
        np.testing.assert_allclose(half, engine.core.logits(IDS), rtol=1e-5, atol=1e-6)
    with engine.using(learned), engine.using(write_control(engine, tmp_path, "against", scale=-1.0)):
        np.testing.assert_allclose(engine.core.logits(IDS), before, rtol=1e-4, atol=1e-5)


def test_beside_factors(engine, tmp_path):
    rng = np.random.default_rng(2)
    layer = "model.layers.0.mlp.down_proj"
    outputs, inputs = engine.weights[f"{layer}.weight"].shape
    factors = {
        f"{layer}.lora_A.weight": rng.normal(size=(2, inputs)).astype(np.float32),
        f"{layer}.lora_B.weight": rng.normal(size=(outputs, 2)).astype(np.float32),
    }
    both = write_control(engine, tmp_path, "both", tensors=factors, rank=2)
    plain = write_control(engine, tmp_path, "plain")
    with engine.using(both):
        found = engine.core.logits(IDS)
    with engine.using(plain):
        assert np.abs(engine.core.logits(IDS) - found).max() > 1e-2


def test_a_text_is_read_token_by_token_as_whole(engine, tmp_path):
    with engine.using(write_control(engine, tmp_path)):
        whole, session = engine.core.logits(IDS), engine.core.session(16)
        for at in range(len(IDS)):
            session.prefill(IDS[at : at + 1])
            np.testing.assert_allclose(session.logits(), whole[at], rtol=1e-4, atol=1e-5)


@pytest.mark.torch
def test_backends_agree(tiny_decoder_dir, tmp_path):
    pytest.importorskip("torch")
    found = []
    for backend in ("native", "torch"):
        with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
            cards = [
                write_control(engine, tmp_path, "one", seed=3),
                write_control(engine, tmp_path, "two", seed=4, blocks=(1,)),
            ]
            with engine.using(cards[0], weight=0.7), engine.using(cards[1], weight=-0.4):
                found.append((engine.core.logits(IDS), engine.generate(IDS, max_tokens=16).tokens))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-3, atol=1e-4)
    assert found[0][1] == found[1][1]


@pytest.mark.torch
def test_a_skill_with_magnitudes_stands_beside_a_control(tiny_decoder_dir, tmp_path):
    pytest.importorskip("torch")
    rng, layer, found = np.random.default_rng(5), "model.layers.0.mlp.down_proj", []
    for backend in ("native", "torch"):
        with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
            outputs, inputs = engine.weights[f"{layer}.weight"].shape
            if not found:
                tensors = {
                    f"{layer}.lora_A.weight": rng.normal(size=(2, inputs)).astype(np.float32),
                    f"{layer}.lora_B.weight": rng.normal(size=(outputs, 2)).astype(np.float32),
                    f"{layer}.lora_magnitude_vector": np.ones(outputs, np.float32),
                    f"{layer}.lora_row_scale": rng.uniform(0.5, 1.5, outputs).astype(np.float32),
                }
            kind = {"kind": "skill", "blocks": (), "width": 0, "rank": 2}
            skill = write_control(engine, tmp_path, "skill", tensors=tensors, **kind)
            control = write_control(engine, tmp_path)
            logits = []
            for weights in ((1.0, 0.0), (0.0, 1.0), (0.7, 0.4)):
                with engine.using(skill, weight=weights[0]), engine.using(control, weight=weights[1]):
                    logits.append(engine.core.logits(IDS))
            found.append(logits)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)
    for other in found[0][:2]:
        assert np.abs(found[0][2] - other).max() > 1e-2


FAULTS = {
    "behind": ({"blocks": (0, 2)}, 'a side block behind "model.layers.2", expected blocks 0 to 1'),
    "large": ({"width": 200}, "numbers, expected at most"),
    "narrow": ({"tensors": side_blocks(31, (0, 1), 1)}, "expected [3, 32]"),
    "empty": ({"width": 0}, 'a side block of width 0 behind "model.layers.0", expected 1 or more'),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_refused_in_the_same_words(tiny_decoder_dir, tmp_path, name):
    pytest.importorskip("torch")
    changes, expected = FAULTS[name]
    said = []
    for backend in ("native", "torch"):
        with ArrowEngine(tiny_decoder_dir, backend=backend, device="cpu") as engine:
            with pytest.raises(CardError) as raised:
                engine.attach(write_control(engine, tmp_path, name, **changes))
            said.append(str(raised.value))
            assert engine.attached == {}
    assert said[0] == said[1]
    assert expected in said[0]


def test_an_encoder_and_another_base_take_none(tiny_encoder_dir, engine, backend, tmp_path):
    card = write_control(engine, tmp_path)
    with ArrowEngine(tiny_encoder_dir, backend=backend, device="cpu") as encoder:
        with pytest.raises(CardError, match="is of the base"):
            encoder.attach(card)
        own = write_control(encoder, tmp_path, "own")
        with pytest.raises(CardError, match="decoders alone take"):
            encoder.attach(own)
