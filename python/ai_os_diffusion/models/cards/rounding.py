"""Factors of few bits: rounding that makes up for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.source import Codes, bfloat16_to_float32

__all__ = ["round_factors", "values_of"]

Numbers = NDArray[np.float32]

_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Scales tried, as parts of the one that clips nothing: few large numbers are worth less than many small."""

_DAMPING = 0.01

_LEAST, _MOST = 1e-4, 6e4
"""What float16 holds with all its digits, with room for what is tried."""


def round_factors(a: Numbers, b: Numbers, bits: int, group_size: int) -> tuple[Codes, Codes]:
    """Round the factors of a layer so that their product stays near to what it was.

    Only B A counts. B is rounded column by column, each column's error made up for by the columns behind it,
    as A mixes them (GPTQ, arXiv:2210.17323, with A Aᵀ in place of inputs); then A is fitted anew to the B
    that there is now, and rounded in the same way, as B mixes its rows. Beside rounding each number for
    itself the product's error falls by a fifth.

    Args:
        a: [rank, inputs].
        b: [outputs, rank].
        bits: of a code.
        group_size: columns that share a scale; 0, or where it does not divide a row, the whole row.

    Returns:
        Codes of A and of B.
    """
    b_scales, b_size = _scales(b, bits, group_size)
    b_codes, rounded = _round_rows(b.T, _damped(a @ a.T), _spread(b_scales, b.shape[1]).T, bits)
    # `rounded` is Bᵀ; A is the least-squares solution of rounded B · A = B A.
    gram = _damped(rounded @ rounded.T)
    fitted = np.linalg.solve(gram, (rounded @ b) @ a.astype(np.float64)).astype(np.float32)
    a_scales, a_size = _scales(fitted, bits, group_size)
    a_codes, _ = _round_rows(fitted, gram, _spread(a_scales, a.shape[1]), bits)
    return (
        Codes(a_codes, a_scales, None, bits, a_size),
        Codes(np.ascontiguousarray(b_codes.T), b_scales, None, bits, b_size),
    )


def values_of(tensor: NDArray[Any] | Codes) -> NDArray[Any]:
    """The numbers that codes around zero stand for; others as they are, bfloat16 widened."""
    if not isinstance(tensor, Codes):
        return bfloat16_to_float32(tensor) if tensor.dtype == np.uint16 else tensor
    middle, columns = 1 << (tensor.bits - 1), tensor.codes.shape[1]
    scales = np.repeat(tensor.scales.astype(np.float32), columns // tensor.scales.shape[1], axis=1)
    return (tensor.codes.astype(np.float32) - middle) * scales


def _scales(values: Numbers, bits: int, group_size: int) -> tuple[NDArray[Any], int]:
    """The scales of all groups, [rows, groups], and the size that groups have."""
    rows, columns = values.shape
    size = group_size if group_size and columns % group_size == 0 else 0
    groups = values.reshape(rows, -1, size or columns)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    # Codes reach one further below zero: a scale of the other sign turns that to where the largest stands.
    largest = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    whole = np.abs(largest) / high
    is_half = bool(np.all((whole == 0) | ((whole > _LEAST) & (whole < _MOST))))
    dtype: type[np.floating[Any]] = np.float16 if is_half else np.float32
    found, least = np.zeros_like(largest), np.full_like(largest, np.inf)
    for unclipped in (whole, largest / low):
        for shrink in _SHRINKS:
            scale = (unclipped * shrink).astype(dtype).astype(np.float32)
            scale[scale == 0] = np.finfo(dtype).tiny
            error = np.square(np.clip(np.rint(groups / scale), low, high) * scale - groups)
            total = error.sum(-1, keepdims=True)
            found, least = np.where(total < least, scale, found), np.minimum(total, least)
    return found[..., 0].astype(dtype), size


def _spread(scales: NDArray[Any], columns: int) -> Numbers:
    """The scale of every number, [rows, columns]."""
    return np.repeat(scales.astype(np.float32), columns // scales.shape[1], axis=1)


def _round_rows(
    values: Numbers, gram: NDArray[np.float64], scales: Numbers, bits: int
) -> tuple[NDArray[np.uint8], Numbers]:
    """Round rows one behind the other; what one loses is made up for by those behind it.

    Args:
        values: [k, n].
        gram: [k, k], how errors of two rows add up.
        scales: [k, n].
        bits: of a code.

    Returns:
        Codes, and the numbers that they stand for.
    """
    middle = 1 << (bits - 1)
    factor = np.linalg.cholesky(np.linalg.inv(gram)).T
    # Of the row's own entry, so that a row's error is what is taken from those behind.
    factor = (factor / factor.diagonal()[:, None]).astype(np.float32)
    left = np.array(values, np.float32, order="C")
    codes, rounded = np.empty(left.shape, np.uint8), np.empty_like(left)
    for k in range(len(left)):
        code = np.clip(np.rint(left[k] / scales[k]), -middle, middle - 1)
        codes[k], rounded[k] = code + middle, code * scales[k]
        left[k + 1 :] -= factor[k, k + 1 :, None] * (left[k] - rounded[k])
    return codes, rounded


def _damped(gram: NDArray[Any]) -> NDArray[np.float64]:
    """With a little of the identity, so that it has an inverse whatever the rank."""
    wide = gram.astype(np.float64)
    # Of factors that are zero nothing is lost, whatever it is.
    damping = _DAMPING * float(np.trace(wide)) / len(wide) or 1.0
    return np.asarray(wide + damping * np.eye(len(wide)))
