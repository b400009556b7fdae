"""Rounding to nearest: this engine against NumPy doing the same arithmetic.

All quantise the same float32 matrices to packed codes, scales and zero points and dequantise them into
one array that is used again, in turns. NumPy does so twice: as one writes it, and with every
large temporary turned into an operation in place. The shapes are a layer of a 7B model and those of one of
135M parameters. Prints a line per setting and, last, JSON with the medians, their ratios, and the
median of the ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native

SHAPES = [(1, 4096, 4096), (16, 576, 1536)]
SETTINGS = list(itertools.product((8, 4, 2), (0, 32, 64), ("symmetric", "asymmetric")))

Quantized = tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.uint8] | None]


def numpy_quantize(
    weights: NDArray[np.float32], bits: int, group_size: int, grid: str, in_place: bool
) -> Quantized:
    """Codes packed along the rows, lowest bits first, scales and zero points."""
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, group_size or columns)
    low, high = groups.min(axis=2, keepdims=True), groups.max(axis=2, keepdims=True)
    middle, levels = 1 << (bits - 1), (1 << bits) - 1
    if grid == "symmetric":
        scale = np.maximum(np.maximum(high, -low) / middle, np.minimum(high, -low) / (middle - 1))
        np.negative(scale, out=scale, where=high > -low)
        zero = None
    else:
        scale = (np.maximum(high, 0) - np.minimum(low, 0)) / levels
        zero = np.rint(-np.minimum(low, 0) / scale).astype(np.uint8)
    stored = scale.astype(np.float16) if group_size else scale
    single, offset = stored.astype(np.float32), middle if zero is None else zero
    if in_place:
        steps = groups / single
        np.rint(steps, out=steps)
        steps += offset
        np.clip(steps, 0, levels, out=steps)
    else:
        steps = np.clip(np.rint(groups / single) + offset, 0, levels)
    codes = steps.astype(np.uint8).reshape(rows, columns)
    if bits == 8:
        return codes, stored, zero
    per_byte = 8 // bits
    packed = codes[:, ::per_byte].copy()
    for i in range(1, per_byte):
        packed |= codes[:, i::per_byte] << np.uint8(i * bits)
    return packed, stored, zero


def numpy_dequantize(
    quantized: Quantized, bits: int, group_size: int, out: NDArray[np.float32], in_place: bool
) -> None:
    """The inverse of `numpy_quantize`."""
    packed, scale, zero = quantized
    codes = packed
    if bits < 8:
        codes = np.empty(out.shape, np.uint8)
        for i in range(8 // bits):
            codes[:, i :: 8 // bits] = packed >> np.uint8(i * bits) & np.uint8((1 << bits) - 1)
    values = out.reshape(out.shape[0], -1, group_size or out.shape[1])
    codes, single = codes.reshape(values.shape), scale.astype(np.float32)
    offset = np.float32(1 << (bits - 1)) if zero is None else zero
    if in_place:
        np.subtract(codes, offset, out=values, dtype=np.float32)
        np.multiply(values, single, out=values)
    else:
        np.multiply(codes.astype(np.float32) - offset, single, out=values)


def numpy_round_trip(
    matrices: list[NDArray[np.float32]],
    bits: int,
    group_size: int,
    grid: str,
    out: NDArray[np.float32],
    in_place: bool = False,
) -> tuple[float, float]:
    """Seconds to quantise all, and to dequantise all."""
    start = time.perf_counter()
    quantized = [numpy_quantize(weights, bits, group_size, grid, in_place) for weights in matrices]
    middle = time.perf_counter()
    for each in quantized:
        numpy_dequantize(each, bits, group_size, out, in_place)
    return middle - start, time.perf_counter() - middle


def native_round_trip(
    matrices: list[NDArray[np.float32]], bits: int, group_size: int, grid: str, out: NDArray[np.float32]
) -> tuple[float, float]:
    """The same through the extension."""
    start = time.perf_counter()
    quantized = [_native.quantize_array(weights, bits, group_size, grid) for weights in matrices]
    middle = time.perf_counter()
    for each in quantized:
        _native.dequantize_array(*each, out.shape, bits, group_size, out)
    return middle - start, time.perf_counter() - middle


def compare(
    matrices: list[NDArray[np.float32]], bits: int, group_size: int, grid: str, repeats: int
) -> dict[str, object]:
    """Times one setting; prints a line and returns its medians."""
    out = np.zeros_like(matrices[0])
    sides = (numpy_round_trip, partial(numpy_round_trip, in_place=True), native_round_trip)
    runs = [[side(matrices, bits, group_size, grid, out) for side in sides] for _ in range(repeats)]
    written, in_place, native = (
        [statistics.median(run[side][step] * 1e3 for run in runs) for step in (0, 1)] for side in range(3)
    )
    ratio, least = sum(written) / sum(native), sum(in_place) / sum(native)
    shape = [len(matrices), *out.shape]
    print(
        f"{shape[0]} x [{shape[1]}, {shape[2]}] int{bits} group {group_size} {grid}: "
        f"NumPy {sum(written):.0f} ms, in place {sum(in_place):.0f} ms, "
        f"native {sum(native):.1f} ms: {ratio:.1f} x, {least:.1f} x"
    )
    return {
        "shape": shape,
        "bits": bits,
        "group_size": group_size,
        "grid": grid,
        "numpy_ms": [round(ms, 2) for ms in written],
        "numpy_in_place_ms": [round(ms, 2) for ms in in_place],
        "native_ms": [round(ms, 2) for ms in native],
        "ratio": round(ratio, 2),
        "ratio_in_place": round(least, 2),
    }


def main() -> None:
    """Time all shapes and settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    results = []
    for count, rows, columns in SHAPES:
        matrices = [random.standard_normal((rows, columns), dtype=np.float32) for _ in range(count)]
        results += [compare(matrices, *setting, options.repeats) for setting in SETTINGS]
    summary = {
        f"median_{name}": round(statistics.median(float(str(result[name])) for result in results), 2)
        for name in ("ratio", "ratio_in_place")
    }
    print(json.dumps({"benchmark": "quantize", "cpus": os.cpu_count(), "results": results, **summary}))


if __name__ == "__main__":
    main()
