"""A layer with factors, as it is read."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion.evolution import LoRACard, LoRAConfig, LoRALinear
from ai_os_diffusion.models.cards import Base, CardDescription
from ai_os_diffusion.utils.errors import CardError

RNG = np.random.default_rng(1)
WEIGHT, BIAS, X = (RNG.standard_normal(shape).astype(np.float32) for shape in ((6, 8), (6,), (2, 3, 8)))


def test_new_factors_change_nothing_and_fusing_changes_nothing_either():
    layer = LoRALinear.from_base(WEIGHT, BIAS, config=LoRAConfig(rank=4, seed=2))
    np.testing.assert_array_equal(layer(X), X @ WEIGHT.T + BIAS)
    assert layer.a.shape == (4, 8)
    assert layer.a.any()
    layer.b = RNG.standard_normal((6, 4)).astype(np.float32)
    fused = layer.fuse()
    np.testing.assert_allclose(layer(X), X @ fused.T + BIAS, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fused, WEIGHT + 16 / 4**0.5 * layer.b @ layer.a, rtol=1e-5)


def test_a_magnitude_is_how_long_rows_are():
    layer = LoRALinear.from_base(WEIGHT, BIAS, config=LoRAConfig(rank=4, seed=2, use_dora=True))
    norms = np.linalg.norm(WEIGHT, axis=1)
    np.testing.assert_allclose(layer.magnitude, norms, rtol=1e-6)
    np.testing.assert_allclose(layer(X), X @ WEIGHT.T + BIAS, rtol=1e-5, atol=1e-6)
    b = RNG.standard_normal((6, 4)).astype(np.float32)
    turned = LoRALinear(WEIGHT, layer.a, b, 0.5, BIAS, magnitude=2 * norms)
    fused = turned.fuse()
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 2 * norms, rtol=1e-5)
    whole = WEIGHT + 0.5 * b @ layer.a
    expected = 2 * norms[:, None] * whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(turned(X), X @ fused.T + BIAS, rtol=1e-4, atol=1e-4)
    with pytest.raises(CardError, match="row 2 has the norm 0"):
        LoRALinear.from_base(WEIGHT * (np.arange(6) != 2)[:, None], config=LoRAConfig(rank=4, use_dora=True))
    with pytest.raises(CardError, match=r"and \[outputs\]"):
        LoRALinear(WEIGHT, layer.a, b, 0.5, magnitude=norms[:3])


def test_of_a_card_with_a_magnitude(tmp_path):
    a, b, m = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 8), (6, 2), (6,)))
    about = CardDescription("boats", "skill", Base("tiny", "llama", "ab" * 32), 2, 0.5)
    given = {"proj.lora_A.weight": a, "proj.lora_B.weight": b, "proj.lora_magnitude_vector": m}
    card = LoRACard.write(tmp_path / "boats.parquet", about, given.items(), weight_of=lambda _layer: WEIGHT)
    fused = LoRALinear.of(card, "proj", WEIGHT).fuse()
    np.testing.assert_allclose(
        fused, card["proj.lora_row_scale"][:, None] * (WEIGHT + 0.5 * b @ a), rtol=1e-5
    )


def test_of_a_card(tmp_path):
    a, b = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 8), (6, 2)))
    about = CardDescription("boats", "skill", Base("tiny", "llama", "ab" * 32), 2, 0.5)
    factors = {"proj.lora_A.weight": a, "proj.lora_B.weight": b}
    card = LoRACard.write(tmp_path / "boats.parquet", about, factors.items())
    np.testing.assert_allclose(LoRALinear.of(card, "proj", WEIGHT).fuse(), WEIGHT + 0.5 * b @ a, rtol=1e-6)
    with pytest.raises(CardError, match="no factors for 'head'; it has proj"):
        LoRALinear.of(card, "head", WEIGHT)


@pytest.mark.parametrize("wrong", ["a", "b", "bias", "weight"])
def test_shapes_that_do_not_fit(wrong):
    given = {"weight": WEIGHT, "a": np.ones((2, 8)), "b": np.ones((6, 2)), "bias": BIAS}
    given[wrong] = np.ones((7, 7, 7))
    with pytest.raises(CardError, match=r"expected \[outputs, inputs\]"):
        LoRALinear(scaling=1.0, **given)
