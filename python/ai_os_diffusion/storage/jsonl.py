"""Memories as lines of JSON.

The first line of an exported file begins with the CRC-32 of the whole file, taken with zeros in its place.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ai_os_diffusion.storage.records import Columns, columns_of, text
from ai_os_diffusion.utils.errors import StorageError

__all__ = ["Batch", "read_batches", "write_lines"]

_BATCH_LINES = 8192
_BLOCK_BYTES = 1 << 20
_BEFORE_SUM = b'{"export": {"crc32": "'
_AFTER_SUM = b'"}, '
_NO_SUM = b"0" * 8
_SUM = re.compile(rb"[0-9a-f]{8}")


@dataclass(frozen=True)
class Batch:
    """Some lines.

    Attributes:
        columns: the memories.
        model: what the lines say made their vectors.
    """

    columns: Columns
    model: str | None


def write_lines(file: BinaryIO, items: Iterable[Mapping[str, Any]]) -> int:
    """Write objects to a new file, which can be read again from its beginning.

    Returns:
        How many.
    """
    count = total = 0
    for count, item in enumerate(items, 1):
        line = json.dumps(item, ensure_ascii=False).encode() + b"\n"
        if count == 1:
            line = _BEFORE_SUM + _NO_SUM + _AFTER_SUM + line[1:]
        total = zlib.crc32(line, total)
        file.write(line)
    if count:
        file.seek(len(_BEFORE_SUM))
        file.write(b"%08x" % total)
    return count


def read_batches(path: str, *, verify: bool) -> Iterator[Batch]:
    """Read memories.

    Args:
        path: the file.
        verify: compare it with the checksum that its first line says, if any, before anything is read.

    Raises:
        StorageError: the file cannot be read or fails its checksum, or a line is no memory.
        DimensionError: vectors are not numbers, or not of one length.
    """
    try:
        if verify:
            _compare_sum(path)
        with Path(path).open(encoding="utf-8") as file:
            lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            while batch := list(islice(lines, _BATCH_LINES)):
                yield _batch(path, batch)
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error


def _compare_sum(path: str) -> None:
    """Only a file whose beginning is as it was written says a checksum of its own bytes."""
    with Path(path).open("rb") as file:
        begin = file.read(len(_BEFORE_SUM) + len(_NO_SUM) + len(_AFTER_SUM))
        noted = begin[len(_BEFORE_SUM) : -len(_AFTER_SUM)]
        if begin != _BEFORE_SUM + noted + _AFTER_SUM or len(noted) != len(_NO_SUM):
            return
        total = zlib.crc32(_BEFORE_SUM + _NO_SUM + _AFTER_SUM)
        while block := file.read(_BLOCK_BYTES):
            total = zlib.crc32(block, total)
    if b"%08x" % total != noted:
        raise StorageError(
            f"{path}: expected the file that was exported, of checksum {noted.decode(errors='replace')}, got "
            f"{total:08x}: it was damaged or changed since; verify=False (--no-verify) takes it"
        )


def _batch(path: str, lines: list[tuple[int, str]]) -> Batch:
    items = [_item(path, number, line) for number, line in lines]
    models = dict.fromkeys(text(item.pop("model"), "model") for item in items if "model" in item)
    if len(models) > 1:
        raise StorageError(f"{path}: expected vectors of one model, got {', '.join(models)}")
    columns = columns_of(items, lambda index: f"{path}, line {lines[index][0]}")
    return Batch(columns, next(iter(models), None))


def _item(path: str, number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path}, line {number}: expected a JSON object, got {error}") from error
    if not isinstance(item, dict):
        raise StorageError(f"{path}, line {number}: expected a JSON object, got {type(item).__name__}")
    noted = item.pop("export", None)
    sum_of_another = isinstance(noted, dict) and _SUM.fullmatch(str(noted.get("crc32")).encode())
    if noted is not None and not sum_of_another:
        raise StorageError(f"{path}, line {number}: expected the checksum of an export, got {noted!r}")
    return item
