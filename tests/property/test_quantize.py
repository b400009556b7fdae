"""Quantisation from Python: half-step bound, bijective packing, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ai_os_diffusion import _native
from ai_os_diffusion.utils.errors import WeightError

BITS = st.sampled_from([8, 4, 2])
GRIDS = st.sampled_from(["symmetric", "asymmetric", "minimum"])
WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.sampled_from([64, 128, 192])),
    elements=st.floats(-60000, 60000, width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e-42]),
    fill=st.floats(-1, 1, width=32),
)


def by_row(values: np.ndarray, rows: int) -> np.ndarray:
    """[panels, groups, 16] to [rows, groups]."""
    return values.swapaxes(1, 2).reshape(-1, values.shape[1])[:rows].astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(weights=WEIGHTS, bits=BITS, group_size=st.sampled_from([0, 32, 64]), grid=GRIDS)
def test_the_error_is_at_most_half_a_step(weights: np.ndarray, bits: int, group_size: int, grid: str) -> None:
    rows, columns = weights.shape
    codes, scales, zeros = _native.quantize_array(weights, bits, group_size, grid)
    values = _native.dequantize_array(codes, scales, zeros, weights.shape, bits, group_size)
    steps = np.repeat(np.abs(by_row(scales, rows)), group_size or columns, axis=1).astype(np.float64)
    least = by_row(zeros, rows) if grid == "minimum" else np.zeros_like(by_row(scales, rows))
    offsets = np.repeat(np.abs(least), group_size or columns, axis=1)
    rounding = (np.abs(weights) + offsets + steps * (1 << bits)) * 4e-7
    assert (np.abs(values.astype(np.float64) - weights) <= steps / 2 + rounding + 1e-37).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 80), BITS, st.integers(0, 2**32 - 1))
def test_packing_is_bijective(rows: int, columns: int, bits: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns), dtype=np.uint8)
    packed = _native.pack_codes(codes, bits)
    np.testing.assert_array_equal(_native.unpack_codes(packed, rows, columns, bits), codes)


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 19), st.integers(0, 63))
def test_what_is_not_finite_is_refused_by_place(value: float, row: int, column: int) -> None:
    weights = np.ones((20, 64), np.float32)
    weights[row, column] = value
    with pytest.raises(WeightError, match=f"row {row}, column {column}: cannot quantise"):
        _native.quantize_array(weights, 4, 32)


def test_wrong_arguments_say_what_is_expected() -> None:
    weights = np.ones((4, 64), np.float32)
    with pytest.raises(ValueError, match="expected 8, 4 or 2, got 3"):
        _native.quantize_array(weights, 3)
    with pytest.raises(ValueError, match="symmetric"):
        _native.quantize_array(weights, 4, 32, "log")
    with pytest.raises(WeightError, match="group size 48"):
        _native.quantize_array(weights, 4, 48)
    with pytest.raises(ValueError, match="two axes"):
        _native.quantize_array(weights[0], 4)
    with pytest.raises(ValueError, match="C-contiguous"):
        _native.quantize_array(weights.T, 4)
    with pytest.raises(TypeError, match="float64"):
        _native.quantize_array(weights.astype(np.float64), 4)
    with pytest.raises(ValueError, match="below 4"):
        _native.pack_codes(np.full((1, 4), 4, np.uint8), 2)
    with pytest.raises(ValueError, match="expected 64 bytes for"):
        _native.unpack_codes(np.zeros(3, np.uint8), 1, 4, 2)
    codes, scales, _ = _native.quantize_array(weights, 4, 32)
    with pytest.raises(WeightError, match="expected"):
        _native.dequantize_array(codes[:-1], scales, None, weights.shape, 4, 32)


def test_a_callback_that_raises_stops_the_work() -> None:
    seen: list[int] = []

    def progress(done: int) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _native.quantize_array(np.ones((8192, 1024), np.float32), 8, 0, "symmetric", progress)
    assert len(seen) == 1
    assert seen[0] < 8192 * 1024


@pytest.mark.parametrize("rows", [40, 8192])
def test_values_go_where_they_are_told(rows: int) -> None:
    weights = np.random.default_rng(0).standard_normal((rows, 576), dtype=np.float32)
    quantized = _native.quantize_array(weights, 4, 32)
    expected = _native.dequantize_array(*quantized, weights.shape, 4, 32)
    out = np.full_like(weights, np.nan)
    assert _native.dequantize_array(*quantized, weights.shape, 4, 32, out) is out
    np.testing.assert_array_equal(out, expected)


def test_a_wrong_place_is_refused() -> None:
    weights = np.ones((4, 64), np.float32)
    quantized = _native.quantize_array(weights, 4, 32)
    read_only = weights.copy()
    read_only.flags.writeable = False
    for out, error, words in [
        (np.empty((4, 64)), TypeError, "float64"),
        (np.empty((64, 4), np.float32), ValueError, "shape"),
        (np.empty((64, 4), np.float32).T, ValueError, "C-contiguous"),
        (read_only, ValueError, "writable"),
    ]:
        with pytest.raises(error, match=words):
            _native.dequantize_array(*quantized, weights.shape, 4, 32, out)
