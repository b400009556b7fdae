"""Whether a source holds what its architecture computes with, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.source import Source
from ai_os_diffusion.models.family import tensors_of
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError

__all__ = ["check_finite", "check_tensors", "needed_tensors"]

Shape = tuple[int, ...]

_SLICE = 1 << 22
"""Values looked at in one piece, so that looking takes no memory to speak of."""


def needed_tensors(metadata: Mapping[str, Any]) -> dict[str, Shape]:
    """Names and shapes of the tensors that a model of this `metadata.json` needs."""
    return {tensor.name: tensor.shape for tensor in tensors_of(metadata) if tensor.is_needed}


def check_tensors(source: Source, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Compare the tensors of a source with what its architecture computes with.

    Returns:
        What each tensor of the source is, as `ModelTensor.kind`, by name.

    Raises:
        ModelLoadError: the metadata lacks a dimension.
        WeightError: a tensor is missing, has another shape, or takes no part in what is computed.
    """
    shapes = {tensor.name: tensor.shape for tensor in source.tensors}
    layers = metadata.get("num_layers", 0)
    if layers > len(shapes):
        raise WeightError(
            f"{source.paths[0]}: {layers} layers, but only {len(shapes)} tensors: fetch the model again"
        )
    try:
        tensors = {tensor.name: tensor for tensor in tensors_of(metadata)}
    except ModelLoadError as error:
        raise ModelLoadError(f"{source.paths[0]}: {error}") from error
    needed = {name: tensor.shape for name, tensor in tensors.items() if tensor.is_needed}
    missing = [name for name in needed if name not in shapes]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightError(
            f"{source.paths[0]}: tensor {missing[0]!r} of shape {needed[missing[0]]}{more} is missing, which "
            f"{metadata['architecture']} needs; expected {len(needed)} tensors, got {len(shapes)}: "
            "fetch the model again"
        )
    for name, shape in needed.items():
        if shapes[name] != shape:
            raise WeightError(
                f"{source.paths[0]}: tensor {name!r}: expected shape {shape} by the model's configuration, "
                f"got {shapes[name]}"
            )
    for name, found in shapes.items():
        if name not in tensors or tensors[name].shape != found:
            raise WeightError(
                f"{source.paths[0]}: tensor {name!r} of shape {found} takes no part in what "
                f"{metadata['architecture']} computes: its results would be left out"
            )
    return {name: tensors[name].kind for name in shapes}


def check_finite(name: str, values: NDArray[Any], dtype: str) -> None:
    """Look for NaN and infinities; bfloat16 is the uint16 of its bits.

    Raises:
        WeightError: there is one; the first is named by its index.
    """
    flat = values.reshape(-1)
    for start in range(0, flat.size, _SLICE):
        piece = flat[start : start + _SLICE]
        good = (piece & 0x7F80) != 0x7F80 if dtype == "bfloat16" else np.isfinite(piece)
        if not good.all():
            place = np.unravel_index(start + int(good.argmin()), values.shape)
            index = ", ".join(str(int(axis)) for axis in place)
            raise WeightError(f"tensor {name!r}: the weight at [{index}] is not finite as {dtype}")
