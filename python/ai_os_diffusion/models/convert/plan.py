"""Decides how each tensor is stored."""

from __future__ import annotations

from dataclasses import dataclass

from ai_os_diffusion.models.convert.source import SourceTensor
from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["QUANTIZE", "Plan", "Storage"]

_PLAIN = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_BITS = {"int8": 8, "int4": 4, "int2": 2}
QUANTIZE = (*_BITS, *_PLAIN)
"""What `quantize` may be."""

_DEFAULTS = {8: (64, "symmetric"), 4: (32, "symmetric"), 2: (32, "asymmetric")}
"""Bits to group size and grid; see docs/design/0202-int8-granularity.md."""

_GROUP_SIZES = (128, 64, 32)


@dataclass(frozen=True, slots=True)
class Storage:
    """How a tensor is written.

    Attributes:
        dtype: `float32`, `float16` or `bfloat16` for a plain tensor; None for a quantised one.
        bits: width of a code.
        group_size: columns that share a scale; 0 is the whole row.
        grid: `symmetric`, `asymmetric` or `minimum`.
        carried: the source's own codes are kept.
    """

    dtype: str | None
    bits: int = 0
    group_size: int = 0
    grid: str = "symmetric"
    carried: bool = False

    @property
    def label(self) -> str:
        """The name in reports: `int4`, `fp32`."""
        if self.dtype is None:
            return f"int{self.bits}"
        return next(short for short, long in _PLAIN.items() if long == self.dtype)


class Plan:
    """The choice a caller made, applied to one model."""

    def __init__(
        self,
        *,
        quantize: str | None,
        group_size: int | None,
        symmetric: bool | None,
        encoder: bool,
    ) -> None:
        """Check the choice.

        Raises:
            ConfigurationError: an unknown word or group size, or grouping without quantising.
        """
        if quantize is not None and quantize not in QUANTIZE:
            raise ConfigurationError(f"quantize: expected one of {', '.join(QUANTIZE)}, got {quantize!r}")
        if group_size is not None and group_size not in (0, *_GROUP_SIZES):
            raise ConfigurationError(
                f"group_size: expected 0 (the whole row), 32, 64 or 128, got {group_size!r}"
            )
        if quantize not in _BITS and (group_size is not None or symmetric is not None):
            raise ConfigurationError("group_size and symmetric need quantize to be int8, int4 or int2")
        self.quantize = quantize
        self.bits = _BITS.get(quantize or "", 0)
        self._group_size, self._symmetric, self._encoder = group_size, symmetric, encoder

    def storage(self, tensor: SourceTensor, kind: str) -> Storage:
        """Choose for one tensor, of a kind as of `ModelTensor`."""
        if len(tensor.shape) != 2:
            # Norms and biases: a thousandth of the bytes, and every error in them reaches all tokens.
            return Storage("float32")
        if self.quantize in _PLAIN:
            return Storage(_PLAIN[self.quantize])
        if self.quantize is None:
            return self._as_stored(tensor)
        if kind == "table":
            return Storage(tensor.dtype)
        if kind in ("words", "head"):
            # A row is looked up or scores a token by itself, so its own scale serves it best; below
            # eight bits the error of the logits would outweigh that of all layers.
            return self._carried(tensor, 8) or self._rounded(tensor, 8, 0 if self._encoder else 32)
        return self._carried(tensor, self.bits) or self._rounded(tensor, self.bits, self._group_size)

    def _as_stored(self, tensor: SourceTensor) -> Storage:
        if tensor.read_codes is not None:
            return Storage(None, tensor.bits, tensor.group_size, carried=True)
        if tensor.stored.startswith("Q"):
            # Five and six bits have no panels of their own; eight hold them with the smallest loss.
            return self._rounded(tensor, 8, 32)
        return Storage(tensor.dtype)

    def _carried(self, tensor: SourceTensor, bits: int) -> Storage | None:
        """Keep codes that are as asked for already: rounding again could only lose."""
        fits = (
            tensor.bits == bits and self._symmetric is None and self._group_size in (None, tensor.group_size)
        )
        return Storage(None, bits, tensor.group_size, carried=True) if fits else None

    def _rounded(self, tensor: SourceTensor, bits: int, group_size: int | None) -> Storage:
        default_group, default_grid = _DEFAULTS[bits]
        grid = default_grid if self._symmetric is None else "symmetric" if self._symmetric else "asymmetric"
        wanted = default_group if group_size is None else group_size
        columns = tensor.shape[1]
        fitting = [size for size in _GROUP_SIZES if size <= wanted and columns % size == 0]
        return Storage(None, bits, fitting[0] if fitting else 0, grid)
