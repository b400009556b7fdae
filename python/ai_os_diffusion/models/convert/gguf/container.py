"""Parses the GGUF container: key-value metadata and the tensor directory.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.gguf.blocks import BLOCK_TYPES, BlockType
from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import WeightError
from ai_os_diffusion.utils.files.regular_file import open_regular

__all__ = ["GgufFile", "GgufTensor"]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_AXES = 4

# A vocabulary of a million tokens with its merges fits each of these several times.
MAX_HEADER_BYTES = 256 << 20
MAX_ITEMS = 1 << 23
"""Values of all arrays together."""

MAX_ENTRIES = 1 << 16
"""Keys, and tensors."""

_MAX_ALIGNMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """An entry of the directory.

    Attributes:
        name: llama.cpp's name.
        shape: row-major axes; the file lists them the other way round.
        type: how the values are stored.
        offset: of the first byte, from the start of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: BlockType
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes of all blocks."""
        return math.prod(self.shape) // self.type.block * self.type.size_bytes


class GgufFile:
    """A parsed file: `metadata` by key, `tensors` in the order of the file."""

    def __init__(self, path: Path) -> None:
        """Parse everything but the values.

        Raises:
            WeightError: the file is damaged, of another version, or uses an unknown storage type.
        """
        self.path = path
        with open_regular(path, None, WeightError) as file:
            reader = _Reader(path, file)
            magic = file.read(4)
            if magic != b"GGUF":
                raise WeightError(
                    f"{path}: not a GGUF file: expected the bytes b'GGUF' at its start, got {magic!r}"
                )
            version = reader.scalar("I")
            if version not in (2, 3):
                raise WeightError(f"{path}: GGUF version {version}; expected 2 or 3, little endian")
            tensor_count, pair_count = reader.scalar("Q"), reader.scalar("Q")
            self.metadata: dict[str, Any] = {}
            for _ in range(reader.checked_count(pair_count, 12, MAX_ENTRIES)):
                key = reader.string()
                if key in self.metadata:
                    raise WeightError(f"{path}: the metadata holds {key!r} twice")
                self.metadata[key] = reader.value(reader.scalar("I"))
            entries = [reader.tensor() for _ in range(reader.checked_count(tensor_count, 24, MAX_ENTRIES))]
            values = UntrustedValues(str(path), self.metadata, WeightError)
            alignment = values.integer("general.alignment", 32, high=_MAX_ALIGNMENT)
            if alignment & (alignment - 1):
                raise values.fault("general.alignment", "a power of two")
            start = -(-file.tell() // alignment) * alignment
            size = reader.size
        self.tensors: list[GgufTensor] = []
        seen = set()
        for name, shape, block_type, offset in entries:
            tensor = GgufTensor(name, shape, block_type, start + offset)
            if name in seen:
                raise WeightError(f"{path}: tensor {name!r} occurs twice")
            if shape and shape[-1] % block_type.block:
                raise WeightError(
                    f"{path}: tensor {name!r}: rows of {shape[-1]} are no whole {block_type.name} blocks"
                )
            if offset % alignment or tensor.offset + tensor.size_bytes > size:
                raise WeightError(
                    f"{path}: tensor {name!r}: expected {tensor.size_bytes} bytes at {tensor.offset}, "
                    f"got a file of {size}; fetch it again"
                )
            seen.add(name)
            self.tensors.append(tensor)

    def read_blocks(self, tensor: GgufTensor) -> NDArray[np.uint8]:
        """Load a tensor as stored: uint8[blocks, bytes of a block]."""
        with open_regular(self.path, None, WeightError) as file:
            raw = np.fromfile(file, dtype=np.uint8, count=tensor.size_bytes, offset=tensor.offset)
        if raw.size != tensor.size_bytes:
            raise WeightError(f"{self.path}: cut short while it was read")
        return raw.reshape(-1, tensor.type.size_bytes)


class _Reader:
    """Reads values, never past the end, and never more of them than a header has."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self.size = os.fstat(file.fileno()).st_size
        self._bytes_left, self._items_left = MAX_HEADER_BYTES, MAX_ITEMS

    def _read(self, count: int) -> bytes:
        if count > self._bytes_left and count <= self.size:
            raise WeightError(f"{self._path}: the GGUF header is larger than {MAX_HEADER_BYTES} bytes")
        self._bytes_left -= count
        data = self._file.read(count) if count <= self.size else b""
        if len(data) != count:
            raise WeightError(
                f"{self._path}: truncated: the GGUF header ends beyond {self.size} bytes; fetch it again"
            )
        return data

    def checked_count(self, count: int, least_bytes: int, limit: int) -> int:
        """Refuse counts whose items could not fit the file, or that no model has."""
        if count * least_bytes > self.size or count > limit:
            raise WeightError(
                f"{self._path}: the GGUF header counts {count} items in a file of {self.size} bytes; "
                f"expected at most {limit}"
            )
        return count

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self._read(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        data = self._read(self.scalar("Q"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise WeightError(f"{self._path}: a string of the GGUF header is not UTF-8: {error}") from error

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < _MAX_AXES:
            item, count = self.scalar("I"), self.scalar("Q")
            code = _SCALARS.get(item)
            least = struct.calcsize("<" + code) if code else 8
            self._items_left -= self.checked_count(count, least, self._items_left)
            if code:
                return list(struct.unpack(f"<{count}{code}", self._read(count * least)))
            return [self.value(item, depth + 1) for _ in range(count)]
        raise WeightError(f"{self._path}: unknown GGUF value type {kind}; expected 0 to 12")

    def tensor(self) -> tuple[str, tuple[int, ...], BlockType, int]:
        name, axes = self.string(), self.scalar("I")
        if axes > _MAX_AXES:
            raise WeightError(f"{self._path}: tensor {name!r} has {axes} axes; expected at most {_MAX_AXES}")
        shape = tuple(reversed([self.scalar("Q") for _ in range(axes)]))
        kind, offset = self.scalar("I"), self.scalar("Q")
        if kind not in BLOCK_TYPES:
            known = ", ".join(known.name for known in BLOCK_TYPES.values())
            raise WeightError(
                f"{self._path}: tensor {name!r}: unknown GGUF storage type {kind}; expected {known}"
            )
        # Without the axes of no length: a product with one of them would hide what the others are.
        if math.prod(axis for axis in shape if axis) >= 2**48:
            raise WeightError(f"{self._path}: tensor {name!r}: shape {shape} is too large")
        return name, shape, BLOCK_TYPES[kind], offset
