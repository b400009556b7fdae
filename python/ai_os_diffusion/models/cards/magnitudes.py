"""Magnitudes: lengths of a layer's rows, learned apart from their directions (DoRA, arXiv:2402.09353)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import dequantize_array, quantize_array
from ai_os_diffusion.models.cards.names import MAGNITUDE, ROW_SCALE, A, B, layer_of, scaled_layer_of
from ai_os_diffusion.models.cards.rounding import values_of
from ai_os_diffusion.models.convert.source import Codes
from ai_os_diffusion.utils.errors import CardError

__all__ = ["WeightOf", "row_norms", "row_scales", "with_row_scales"]

Numbers = NDArray[np.float32]
Tensor = NDArray[Any] | Codes
WeightOf = Callable[[str], Numbers]
"""The weights of a layer of the base, float32[outputs, inputs], by the layer's name."""


def row_norms(weight: Numbers, layer: str) -> Numbers:
    """Lengths of rows, float32[outputs]: the magnitudes with which learning begins.

    Raises:
        CardError: a row is all zeros, or not finite: it has no direction.
    """
    norms = np.sqrt(np.einsum("oi,oi->o", weight, weight, dtype=np.float64))
    bad = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if len(bad):
        raise CardError(
            f"layer {layer!r}: row {bad[0]} has the norm {norms[bad[0]]:g}, expected one above 0 to divide "
            "by; leave the layer out, or learn without magnitudes"
        )
    found: Numbers = norms.astype(np.float32)
    return found


def row_scales(
    weight: Numbers, a: Numbers, b: Numbers, scaling: float, magnitude: Numbers, layer: str
) -> Numbers:
    """M / ‖W + scaling · B A‖, float32[outputs], a norm for each row.

    Args:
        weight: [outputs, inputs].
        a: [rank, inputs].
        b: [outputs, rank].
        scaling: of their product.
        magnitude: [outputs].
        layer: named in errors.

    Raises:
        CardError: the shapes do not fit each other, or a norm is 0 or not finite.
    """
    shapes = [one.shape for one in (weight, a, b, magnitude)]
    outputs, inputs = shapes[0] if len(shapes[0]) == 2 else (-1, -1)
    if shapes[1:] != [(len(a), inputs), (outputs, len(a)), (outputs,)]:
        raise CardError(
            f"layer {layer!r}: weight, factors and magnitude are {shapes}, expected [outputs, inputs], "
            "[rank, inputs], [outputs, rank] and [outputs]"
        )
    return magnitude / row_norms(weight + np.float32(scaling) * (b @ a), layer)


def with_row_scales(
    tensors: Iterable[tuple[str, Tensor]],
    scaling: float,
    weight_of: WeightOf,
    bits: int | None,
    group_size: int,
) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a card, and behind them what each magnitude scales the rows of the base by.

    Factors count as the file will give them back, so that rounding them moves no norm.

    Args:
        tensors: of a card; scales that are there already are left out.
        scaling: of its factors.
        weight_of: the base's.
        bits: that factors will be rounded to, if they will.
        group_size: as they are then.

    Raises:
        CardError: a layer has a magnitude and lacks a factor, a norm is 0, or numbers are not finite.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors:
        layer = layer_of(name) or scaled_layer_of(name)
        if layer is not None:
            layers.setdefault(layer, {})[name.removeprefix(layer)] = tensor
        if not name.endswith(ROW_SCALE):
            yield name, tensor
    for layer, parts in layers.items():
        if MAGNITUDE not in parts:
            continue
        if not {A, B} <= parts.keys():
            raise CardError(f"layer {layer!r} has a magnitude, expected both factors beside it")
        a, b, magnitude = (_stored(parts[part], bits, group_size) for part in (A, B, MAGNITUDE))
        yield layer + ROW_SCALE, row_scales(weight_of(layer), a, b, scaling, magnitude, layer)


def _stored(tensor: Tensor, bits: int | None, group_size: int) -> Numbers:
    """The numbers that a file gives back."""
    if isinstance(tensor, Codes) or bits is None or tensor.ndim != 2:
        return np.ascontiguousarray(values_of(tensor), np.float32)
    size = group_size if group_size and tensor.shape[1] % group_size == 0 else 0
    codes, scales, zeros = quantize_array(np.ascontiguousarray(tensor), bits, size)
    return dequantize_array(codes, scales, zeros, tensor.shape, bits, size)
