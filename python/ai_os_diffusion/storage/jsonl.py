"""Memories as lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from ai_os_diffusion.storage.records import Columns, columns_of
from ai_os_diffusion.utils.errors import StorageError

__all__ = ["read_batches"]

_BATCH_LINES = 8192
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read_batches(path: str) -> Iterator[tuple[Columns, list[int], list[int]]]:
    """Read memories with their times of creation and of the last change, in microseconds.

    Raises:
        StorageError: the file cannot be read, or a line is no memory.
        DimensionError: vectors are not numbers, or not of one length.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            while batch := list(islice(lines, _BATCH_LINES)):
                items = [_item(path, number, line) for number, line in batch]
                now = time.time_ns() // 1000
                created = [_micros(path, item.pop("created_at", None), now) for item in items]
                updated = [_micros(path, item.pop("updated_at", None), now) for item in items]
                yield columns_of(items), created, updated
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
