"""Dropout as the native trainer draws it: a function of a seed, a layer and a position alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["kept_inputs"]

Tensor = Any

_GOLDEN = 0x9E3779B97F4A7C15
_MIXED = (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)
_LOW = 0xFFFFFFFF


def kept_inputs(layers: Tensor, rows: Tensor, width: int, rate: float, seed: Tensor) -> Tensor:
    """Which inputs of low-rank factors are not left out.

    Xoshiro256++ (https://prng.di.unimi.it), one sequence a layer and a row, one draw for two inputs: as
    `crates/cpu_training/src/dropout.rs`, here for all rows at once.

    Args:
        layers: int64[layers], numbers of layers of one width.
        rows: int64[n], numbers of the positions in the step.
        width: inputs of each.
        rate: part that is left out.
        seed: int64[] of the step, at least 0.

    Returns:
        bool[layers, n, width], True for those that are kept.
    """
    state = seed ^ ((layers[:, None] << 32 | rows) * _signed(_GOLDEN))
    words = []
    for _ in range(4):
        state = state + _signed(_GOLDEN)
        mixed = state
        for shift, factor in _MIXED:
            mixed = (mixed ^ _right(mixed, shift)) * _signed(factor)
        words.append(mixed ^ _right(mixed, 31))
    s0, s1, s2, s3 = words
    drawn = []
    for _ in range(-(-width // 2)):
        drawn.append(_turned(s0 + s3, 23) + s0)
        shifted = s1 << 17
        s2, s3 = s2 ^ s0, s3 ^ s1
        s1, s0 = s1 ^ s2, s0 ^ s3
        s2, s3 = s2 ^ shifted, _turned(s3, 45)
    bits = torch.stack(drawn, -1)
    least = int(float(np.float32(rate)) * _LOW)
    halves = torch.stack([bits & _LOW, _right(bits, 32)], -1)
    return halves.flatten(-2)[..., :width] >= least


def _signed(bits: int) -> int:
    """64 bits as torch has them."""
    return bits - (1 << 64) if bits >> 63 else bits


def _right(x: Tensor, count: int) -> Tensor:
    """A shift to the right that moves zeros in."""
    return (x >> count) & ((1 << (64 - count)) - 1)


def _turned(x: Tensor, count: int) -> Tensor:
    return (x << count) | _right(x, 64 - count)
