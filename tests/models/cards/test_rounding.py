"""Factors of four bits: their product stays nearer than where each number is rounded for itself."""

from __future__ import annotations

import numpy as np
import pytest

from ai_os_diffusion._native import dequantize_array, quantize_array
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.rounding import round_factors
from ai_os_diffusion.utils.errors import CardError


def factors(seed, rank=64, outputs=192, inputs=160):
    """As training leaves them: some directions count more than others."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rank, inputs)).astype(np.float32)
    mixing = rng.standard_normal((rank, rank)) * np.linspace(1, 0.1, rank)
    return a, (rng.standard_normal((outputs, rank)) @ mixing).astype(np.float32) / rank


def written(tmp_path, tensors, bits=4, group_size=32):
    about = CardDescription(
        "c", "skill", Base("b", "llama", "0" * 64), len(dict(tensors)["l.lora_A.weight"]), 1.0
    )
    return Card.write(tmp_path / "card.parquet", about, tensors, bits=bits, group_size=group_size)


def error_of(a, b, other_a, other_b):
    return np.linalg.norm(other_b @ other_a - b @ a) / np.linalg.norm(b @ a)


@pytest.mark.parametrize("is_a_first", [True, False])
def test_the_product_of_four_bits_is_nearer_than_of_numbers_rounded_alone(tmp_path, is_a_first):
    a, b = factors(0)
    tensors = [("l.lora_A.weight", a), ("l.lora_B.weight", b)]
    card = written(tmp_path, tensors if is_a_first else tensors[::-1])
    kinds = {card.native.info(name)["quant_type"] for name in card}
    assert kinds == {"int4"}

    def alone(values):
        codes, scales, zeros = quantize_array(values, 4, 32)
        return dequantize_array(codes, scales, zeros, values.shape, 4, 32)

    ours = error_of(a, b, card["l.lora_A.weight"], card["l.lora_B.weight"])
    assert ours < 0.85 * error_of(a, b, alone(a), alone(b))


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("rank", [1, 6])
def test_any_size_of_numbers_and_any_rank_is_rounded(tmp_path, scale, rank):
    a, b = factors(1, rank=rank)
    b = b * np.float32(scale)
    card = written(tmp_path, [("l.lora_A.weight", a), ("l.lora_B.weight", b)])
    assert error_of(a, b, card["l.lora_A.weight"], card["l.lora_B.weight"]) < 0.25


def test_factors_that_add_nothing_stay_so():
    a, b = factors(2)
    a_codes, b_codes = round_factors(a, np.zeros_like(b), 4, 32)
    assert (b_codes.codes == 8).all()
    assert np.isfinite(a_codes.scales).all()


def test_what_is_no_pair_is_refused_as_ever(tmp_path):
    a, b = factors(3)
    with pytest.raises(CardError, match=r"'l' has no lora_B"):
        written(tmp_path, [("l.lora_A.weight", a)])
    with pytest.raises(CardError, match=r"expected \[rank, in\] and \[out, rank\]"):
        written(tmp_path, [("l.lora_A.weight", a), ("l.lora_B.weight", b[:, :32])])
    with pytest.raises(CardError, match="is there twice"):
        written(tmp_path, [("l.lora_A.weight", a), ("l.lora_A.weight", a), ("l.lora_B.weight", b)])
    b[3, 3] = np.nan
    with pytest.raises(CardError, match=r"'l\.lora_B\.weight' holds NaN"):
        written(tmp_path, [("l.lora_A.weight", a), ("l.lora_B.weight", b)])
