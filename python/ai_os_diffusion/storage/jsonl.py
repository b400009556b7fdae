"""Memories as lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ai_os_diffusion.storage.records import Columns, columns_of, text
from ai_os_diffusion.utils.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "read_batches"]

_BATCH_LINES = 8192
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Batch:
    """Some lines.

    Attributes:
        columns: the memories.
        created_at: int64[n], microseconds since the epoch.
        updated_at: int64[n], microseconds since the epoch.
        model: what the lines say made their vectors.
    """

    columns: Columns
    created_at: NDArray[np.int64]
    updated_at: NDArray[np.int64]
    model: str | None


def read_batches(path: str) -> Iterator[Batch]:
    """Read memories.

    Raises:
        StorageError: the file cannot be read, or a line is no memory.
        DimensionError: vectors are not numbers, or not of one length.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            while batch := list(islice(lines, _BATCH_LINES)):
                items = [_item(path, number, line) for number, line in batch]
                models = dict.fromkeys(text(item.pop("model"), "model") for item in items if "model" in item)
                if len(models) > 1:
                    raise StorageError(f"{path}: expected vectors of one model, got {', '.join(models)}")
                created, updated = (_times(path, items, name) for name in ("created_at", "updated_at"))
                yield Batch(columns_of(items), created, updated, next(iter(models), None))
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error


def _item(path: str, number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise StorageError(f"{path}, line {number}: expected a JSON object, got {error}") from error
    if not isinstance(item, dict):
        raise StorageError(f"{path}, line {number}: expected a JSON object, got {type(item).__name__}")
    return item


def _times(path: str, items: list[dict[str, Any]], name: str) -> NDArray[np.int64]:
    now = time.time_ns() // 1000
    return np.array([_micros(path, item.pop(name, None), now) for item in items], np.int64)


def _micros(path: str, value: object, default: int) -> int:
    """A time as ISO 8601, or as seconds since the epoch."""
    if value is None:
        return default
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * 1e6)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise StorageError(f"{path}: expected a time in ISO 8601 or seconds, got {value!r}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
