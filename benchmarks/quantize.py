"""Rounding to nearest: this engine against NumPy doing the same arithmetic.

Prints a line per setting and, last, JSON with the medians and their ratios. Both sides quantise and
dequantise one matrix of the size of a 1B model's feed-forward layer, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native

SETTINGS = [
    (8, 0, "symmetric"),
    (8, 32, "symmetric"),
    (4, 32, "symmetric"),
    (4, 64, "asymmetric"),
    (2, 32, "asymmetric"),
]


def numpy_round_trip(
    weights: NDArray[np.float32], bits: int, group_size: int, grid: str
) -> tuple[float, float]:
    """Quantise to packed codes and back; returns the seconds of both."""
    start = time.perf_counter()
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, group_size or columns)
    low, high = groups.min(axis=2, keepdims=True), groups.max(axis=2, keepdims=True)
    middle, levels = 1 << (bits - 1), (1 << bits) - 1
    if grid == "symmetric":
        scale = np.maximum(np.maximum(high, -low) / middle, np.minimum(high, -low) / (middle - 1))
        scale = np.where(high > -low, -scale, scale)
        zero = np.full_like(scale, middle)
    else:
        scale = (np.maximum(high, 0) - np.minimum(low, 0)) / levels
        zero = np.rint(-np.minimum(low, 0) / scale)
    if group_size:
        scale = scale.astype(np.float16).astype(np.float32)
    codes = np.clip(np.rint(groups / scale) + zero, 0, levels).astype(np.uint8).reshape(rows, -1)
    packed = np.zeros((rows, columns * bits // 8), np.uint8)
    for i in range(8 // bits):
        packed |= codes[:, i :: 8 // bits] << np.uint8(i * bits)
    quantized = time.perf_counter()
    unpacked = np.empty_like(codes)
    for i in range(8 // bits):
        unpacked[:, i :: 8 // bits] = packed >> np.uint8(i * bits) & np.uint8(levels)
    values = (unpacked.reshape(groups.shape).astype(np.float32) - zero) * scale
    values.reshape(rows, columns)
    return quantized - start, time.perf_counter() - quantized


def native_round_trip(
    weights: NDArray[np.float32], bits: int, group_size: int, grid: str
) -> tuple[float, float]:
    """The same through the extension."""
    start = time.perf_counter()
    quantized = _native.quantize_array(weights, bits, group_size, grid)
    middle = time.perf_counter()
    _native.dequantize_array(*quantized, weights.shape, bits, group_size)
    return middle - start, time.perf_counter() - middle


def main() -> None:
    """Time all settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    weights = np.random.default_rng(0).standard_normal((options.rows, options.columns), dtype=np.float32)
    results = []
    for bits, group_size, grid in SETTINGS:
        pairs = [
            (
                numpy_round_trip(weights, bits, group_size, grid),
                native_round_trip(weights, bits, group_size, grid),
            )
            for _ in range(options.repeats)
        ]
        medians = [
            [statistics.median(run[side][step] for run in pairs) for step in (0, 1)] for side in (0, 1)
        ]
        ratio = sum(medians[0]) / sum(medians[1])
        results.append(
            {
                "bits": bits,
                "group_size": group_size,
                "grid": grid,
                "numpy_ms": [round(seconds * 1e3, 2) for seconds in medians[0]],
                "native_ms": [round(seconds * 1e3, 2) for seconds in medians[1]],
                "ratio": round(ratio, 1),
            }
        )
        print(
            f"int{bits} group {group_size} {grid}: NumPy {sum(medians[0]) * 1e3:.0f} ms, "
            f"native {sum(medians[1]) * 1e3:.0f} ms, {ratio:.1f} x"
        )
    print(
        json.dumps(
            {"benchmark": "quantize", "cpus": os.cpu_count(), "shape": weights.shape, "results": results}
        )
    )


if __name__ == "__main__":
    main()
