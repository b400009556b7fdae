"""What the columns of a weight file mean, and what its tensors are in Python.

`docs/formats/weights.md` draws the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ai_os_diffusion._native import WeightFile

__all__ = ["QUANT_TYPES", "SCHEMA_V1", "SCHEMA_V2", "BFloat16Tensor", "QuantizedTensor", "tensor_view"]

SCHEMA_V1 = {
    "layer_name": "string",
    "shape": "list<int32>",
    "dtype": "string",
    "data": "binary",
    "num_params": "int64",
}
"""Columns of plain weights, by their Arrow types."""

SCHEMA_V2 = {
    **SCHEMA_V1,
    "quant_type": "string",
    "scales": "binary",
    "zero_points": "binary",
    "quant_axis": "int32",
    "group_size": "int32",
}
"""Columns of a file with quantised weights; `quant_type` tells it from V1."""

QUANT_TYPES = ("int8", "int4", "int2", "fp16", "bf16", "fp32")
"""Values of the column `quant_type`."""


@dataclass(frozen=True, slots=True)
class BFloat16Tensor:
    """A bfloat16 tensor, which NumPy has no type for.

    Attributes:
        shape: its axes.
        bits: uint16[shape], the upper halves of float32; a read-only view of the file.
    """

    shape: tuple[int, ...]
    bits: NDArray[np.uint16]

    @property
    def nbytes(self) -> int:
        """Bytes stored."""
        return self.bits.nbytes

    def dequantize(self) -> NDArray[np.float32]:
        """Widen to float32[shape]; exact."""
        return (self.bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A quantised matrix; all arrays are read-only views of the file.

    A weight is `scale * (code - zero)`, or `scale * code + minimum` where `zero_point` is
    `minimum_float16`.

    Attributes:
        shape: its axes; the first one's rows have scales of their own.
        quant_type: `int8`, `int4` or `int2`.
        group_size: columns that share a scale; 0 is the whole row.
        packing: order of the codes, `panel16` or `row_major`.
        zero_point: `middle`, `uint8` or `minimum_float16`.
        codes: uint8[bytes], packed.
        scales: float16 or float32, [panels, groups, 16] for `panel16`, [rows, groups] for `row_major`.
        zero_points: in the order of the scales; None for `middle`.
    """

    shape: tuple[int, ...]
    quant_type: str
    group_size: int
    packing: str
    zero_point: str
    codes: NDArray[np.uint8]
    scales: NDArray[Any]
    zero_points: NDArray[Any] | None
    _file: WeightFile = field(repr=False, compare=False)
    _name: str = field(repr=False, compare=False)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return int(self.quant_type.removeprefix("int"))

    @property
    def nbytes(self) -> int:
        """Bytes stored: codes, scales and zero points."""
        zeros = 0 if self.zero_points is None else self.zero_points.nbytes
        return self.codes.nbytes + self.scales.nbytes + zeros

    @property
    def bits_per_weight(self) -> float:
        """Stored bits, scales and zero points included, per weight."""
        return self.nbytes * 8 / max(int(np.prod(self.shape, dtype=np.int64)), 1)

    def dequantize(self) -> NDArray[np.float32]:
        """The weights as float32[shape]; a new array."""
        return self._file.dequantize(self._name)

    def unpack(self) -> NDArray[np.uint8]:
        """The codes, one a byte: uint8[rows, columns]; a new array."""
        return self._file.unpacked_codes(self._name)


def tensor_view(file: WeightFile, name: str) -> NDArray[Any] | BFloat16Tensor | QuantizedTensor:
    """The tensor as its file holds it, without a copy.

    Raises:
        KeyError: the file has no tensor of that name.
    """
    info = file.info(name)
    if info["quant_type"] is None:
        values = file.plain(name)
        return BFloat16Tensor(info["shape"], values) if info["dtype"] == "bfloat16" else values
    return QuantizedTensor(
        shape=info["shape"],
        quant_type=info["quant_type"],
        group_size=info["group_size"],
        packing=info["packing"],
        zero_point=info["zero_point"],
        codes=file.codes(name),
        scales=file.scales(name),
        zero_points=file.zero_points(name),
        _file=file,
        _name=name,
    )
