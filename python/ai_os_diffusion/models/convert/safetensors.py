"""Reads safetensors: one file, or shards with an index.

A file is the length of a JSON header (uint64), the header (name to dtype, shape and byte range), and
the bytes. Source: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.source import SourceTensor
from ai_os_diffusion.models.untrusted_values import read_values, shown
from ai_os_diffusion.utils.errors import WeightError
from ai_os_diffusion.utils.files.clean_name import is_clean_name
from ai_os_diffusion.utils.files.regular_file import open_regular

__all__ = ["read_metadata", "read_safetensors", "shards_of", "write_safetensors"]

MAX_HEADER_BYTES = 16 << 20
"""Room for a hundred thousand tensors; the format's own limit of 100 MB takes gigabytes once it is parsed."""

MAX_INDEX_BYTES = 32 << 20

_MAX_AXES = 8

_ITEM_SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
_DTYPES = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_INTEGERS = {"I8": "int8"}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "<i1"}


def shards_of(index_path: Path) -> list[Path]:
    """List the files of a sharded model.

    Raises:
        WeightError: the index is no JSON of the expected form, or names a file outside its folder.
    """
    weight_map = read_values(index_path, MAX_INDEX_BYTES, WeightError).section("weight_map")
    if not weight_map.values:
        raise WeightError(f"{index_path}: expected JSON with a `weight_map` of tensor to file")
    shards = []
    for name in sorted({weight_map.text(tensor) for tensor in weight_map}):
        if not is_clean_name(name):
            raise WeightError(f"{index_path}: expected file names in `weight_map`, got {name!r}")
        if not (index_path.parent / name).exists():
            raise WeightError(f"{index_path}: names the shard {name}, which is not there; fetch it too")
        shards.append(index_path.parent / name)
    return shards


def read_safetensors(path: Path, *, integers: bool = False) -> list[SourceTensor]:
    """List the floating-point tensors of one file; integers and booleans (position ids, masks) are left out.

    Args:
        path: the file.
        integers: take those of 8 bits too.

    Raises:
        WeightError: the header is damaged, or contradicts itself or the file's length.
    """
    size, length, header = _header(path)
    header.pop("__metadata__", None)
    dtypes = _DTYPES | _INTEGERS if integers else _DTYPES
    tensors, end = [], 0
    entries = [(name, *_entry(path, name, entry)) for name, entry in header.items()]
    for name, dtype, shape, start, stop in sorted(entries, key=lambda entry: entry[3:]):
        # The format has no holes and no overlaps.
        if start != end:
            raise WeightError(f"{path}: tensor {name!r}: expected its bytes at {end}, got {start}")
        end = stop
        if dtype in dtypes:
            read = partial(_read, path, 8 + length + start, dtype, shape)
            tensors.append(SourceTensor(name, shape, dtypes[dtype], read, dtype))
    if 8 + length + end != size:
        raise WeightError(f"{path}: expected {8 + length + end} bytes, got {size}; fetch it again")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says beside its tensors: texts by name.

    Raises:
        WeightError: the header is damaged.
    """
    found = _header(path)[2].get("__metadata__", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise WeightError(f"{path}: __metadata__ is {shown(found)}, expected texts by name")
    return found


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write float32 tensors."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, "<f4").tobytes())


def _header(path: Path) -> tuple[int, int, dict[str, Any]]:
    """Bytes of the file and of its header, and the header."""
    with open_regular(path, None, WeightError) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise WeightError(
                f"{path}: not a safetensors file: a header of {length} bytes in {size}; fetch it again"
            )
        try:
            header = json.loads(file.read(length), object_pairs_hook=partial(_unique, path))
        except (ValueError, RecursionError) as error:
            raise WeightError(f"{path}: the safetensors header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise WeightError(f"{path}: the safetensors header: expected an object, got {type(header).__name__}")
    return size, length, header


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise WeightError(f"{path}: the safetensors header names a tensor or key twice")
    return entries


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if len(shape) > _MAX_AXES:
            raise ValueError(f"{len(shape)} axes, expected at most {_MAX_AXES}")
        numbers = (*shape, start, stop)
        if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"shape {shape} or offsets {start}, {stop} are not non-negative integers")
        item_size = _ITEM_SIZES[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightError(
            f"{path}: tensor {name!r}: unusable header entry {shown(entry)}: {error}"
        ) from error
    expected = item_size
    for axis in shape:
        expected *= axis
    if stop - start != expected:
        raise WeightError(
            f"{path}: tensor {name!r}: {dtype} {shape} needs {expected} bytes, got {stop - start}"
        )
    return dtype, shape, start, stop


def _read(path: Path, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    values = np.fromfile(path, dtype=_NUMPY[dtype], count=count, offset=offset)
    if values.size != count:
        raise WeightError(f"{path}: cut short while it was read")
    return values.astype(np.float32, copy=False).reshape(shape) if dtype == "F64" else values.reshape(shape)
