"""What every source format offers the converter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Codes", "Description", "Source", "SourceTensor", "bfloat16_to_float32"]


@dataclass(frozen=True, slots=True)
class Codes:
    """A matrix another quantiser already rounded.

    Attributes:
        codes: uint8[n, k].
        scales: float16[n, groups] or float32.
        zero_points: None, where the middle code stands for zero; uint8[n, groups], the code that does;
            or float16[n, groups], minimums: a weight is `scale * code + minimum`.
        bits: 8, 4 or 2.
        group_size: columns that share a scale; 0 is the whole row.
    """

    codes: NDArray[np.uint8]
    scales: NDArray[Any]
    zero_points: NDArray[Any] | None
    bits: int
    group_size: int


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor that is read when asked for.

    Attributes:
        name: its Hugging Face name.
        shape: its axes.
        dtype: `float32`, `float16` or `bfloat16`: what `read` returns, bfloat16 as the uint16 of its bits.
        read: loads the values, C-contiguous, in `shape`.
        stored: how the source stores it, for the report (`Q4_1`, `BF16`, ...).
        bits: width of the codes `read_codes` returns; 0 without.
        group_size: columns of those that share a scale.
        read_codes: loads the codes, where they carry over without loss.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], NDArray[Any]]
    stored: str
    bits: int = 0
    group_size: int = 0
    read_codes: Callable[[], Codes] | None = None

    @property
    def num_params(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(slots=True)
class Description:
    """Everything about a model but its weights.

    Attributes:
        metadata: the entries of `metadata.json` the source determines.
        files: file name to its bytes, written beside the weights (tokenizer and its configuration).
        remarks: on settings that are not known and were not applied.
    """

    metadata: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Source(Protocol):
    """An opened model in a foreign format."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files read, for their checksums."""
        ...

    @property
    def tensors(self) -> Sequence[SourceTensor]:
        """The tensors, under their Hugging Face names."""
        ...

    @property
    def dropped(self) -> Sequence[str]:
        """Names of tensors that inference has no use for."""
        ...

    def describe(self) -> Description:
        """Read configuration and tokenizer."""
        ...


def bfloat16_to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Widen bfloat16 bits of any shape; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
