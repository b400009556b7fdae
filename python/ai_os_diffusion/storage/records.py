"""From what people hand to a store to the columns that cross into it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any

import numpy as np

from ai_os_diffusion import _native
from ai_os_diffusion.storage.times import micros_in, micros_of
from ai_os_diffusion.utils.errors import DimensionError, FilterError, StorageError
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Columns",
    "as_matrix",
    "as_vector",
    "columns_of",
    "filter_json",
    "holds_for_all",
    "metadata_json",
    "text",
]

_TIMES = ("created_at", "updated_at")
_FIELDS = frozenset({"memory_id", "content", "embedding", "metadata", *_TIMES})


def _json_value(value: object) -> object:
    """What JSON has no word for: scalars and arrays of NumPy; dates, as texts that sort by time."""
    if isinstance(value, np.datetime64) and not np.isnat(value):
        return str(np.datetime_as_string(value))
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(timezone.utc)).isoformat()
    if isinstance(value, (date, time_of_day)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__}, which is none")


# One for all calls: `json.dumps` would make one for each memory.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_json_value)


@dataclass
class Columns:
    """Memories as parallel columns.

    Attributes:
        ids: n names.
        contents: n texts.
        metadata: n JSON objects.
        embeddings: float32[n, dim].
        times: int64[n] each, of creation and of the last change, in microseconds since the epoch; None when
            no memory says any.
    """

    ids: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    embeddings: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    times: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


def as_vector(vector: ArrayLike, which: str) -> NDArray[np.float32]:
    """Make a contiguous float32[dim] of anything one-dimensional.

    Raises:
        DimensionError: it is not a list of numbers.
    """
    return _floats(vector, which, 1, "one vector, float[dim]")


def as_matrix(vectors: ArrayLike, which: str) -> NDArray[np.float32]:
    """Make a contiguous float32[n, dim] of anything two-dimensional.

    Raises:
        DimensionError: it is not a table of numbers.
    """
    return _floats(vectors, which, 2, "vectors, float[n, dim]")


def _floats(values: ArrayLike, which: str, axes: int, expected: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "US":
            raise DimensionError(
                f"{which}: expected numbers, got a text; a store holds vectors and makes none: "
                "embed it first, for example with engine.encode_query(text)"
            )
        if array.dtype.kind not in "fiu":
            raise DimensionError(f"{which}: expected numbers, got {array.dtype}")
        if array.dtype == np.float32:
            array = np.asarray(array, order="C")
        else:
            with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused as that
                array = np.asarray(array, dtype=np.float32, order="C")
    except (TypeError, ValueError) as error:
        if isinstance(error, DimensionError):
            raise
        raise DimensionError(f"{which}: expected numbers, in rows of equal length: {error}") from error
    if array.ndim != axes:
        raise DimensionError(f"{which}: expected {expected}, got shape {list(array.shape)}")
    return array


def metadata_json(metadata: Mapping[str, Any] | None, memory_id: object) -> str:
    """Write metadata as JSON.

    Raises:
        StorageError: it is not a mapping of texts to JSON values, scalars or arrays of NumPy, or dates.
    """
    if metadata is None:
        return "{}"
    if not isinstance(metadata, dict):
        if not isinstance(metadata, Mapping):
            raise StorageError(
                f"metadata of {memory_id!r}: expected a mapping, got {type(metadata).__name__}"
            )
        metadata = dict(metadata)
    for key in metadata:
        if not isinstance(key, str):
            raise StorageError(f"metadata of {memory_id!r}: expected names that are texts, got {key!r}")
    return _json(metadata, "metadata of", memory_id)


def filter_json(filter: Mapping[str, Any] | None) -> str | None:
    """Write a filter as JSON.

    Raises:
        FilterError: it is not a mapping of JSON values.
    """
    if filter is None:
        return None
    if not isinstance(filter, Mapping):
        raise FilterError(f"filter: expected a mapping, got {type(filter).__name__}")
    try:
        return _json(dict(filter), "filter")
    except StorageError as error:
        raise FilterError(str(error)) from error


def holds_for_all(filter: Mapping[str, Any]) -> bool:
    """Whether no memory could fail a filter, whatever it holds and however the filter is written.

    Raises:
        FilterError: the filter cannot be understood.
    """
    return _native.filter_holds_for_all(filter_json(filter) or "{}")


def _json(value: Any, what: str, memory_id: object = "") -> str:
    try:
        text = _ENCODER.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        where = f"{what} {memory_id!r}" if memory_id else what
        raise StorageError(f"{where}: expected JSON values (no NaN), got {error}") from error
    return text


def columns_of(items: Any, name: Callable[[int], str] | None = None) -> Columns:
    """Make columns of mappings, or of Arrow data.

    Args:
        items: mappings with `memory_id`, `content`, `embedding` and optionally `metadata`, `created_at` and
            `updated_at`; or a pyarrow Table or RecordBatch, or anything with `__arrow_c_stream__`, with
            columns of these names.
        name: how to call a mapping in errors, by its index.

    Raises:
        StorageError: a field is missing, unknown or of the wrong type.
        DimensionError: the embeddings are not numbers, or not of one length.
    """
    if hasattr(items, "__arrow_c_stream__") or hasattr(items, "__arrow_c_array__"):
        return _arrow_columns(items)
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        raise StorageError(
            f"save_many: expected a list of dicts or an Arrow table, got {type(items).__name__}"
        )
    columns = Columns()
    vectors, moments = [], []
    for index, item in enumerate(items):
        try:
            moments.append(_add(columns, item, index))
        except StorageError as error:
            if name is None:
                raise
            raise type(error)(f"{name(index)}: {error}") from error
        vectors.append(item["embedding"])
    columns.embeddings = _stack(vectors, columns.ids)
    columns.times = _times(*zip(*moments, strict=True)) if moments else None
    return columns


def _add(columns: Columns, item: object, index: int) -> list[int | None]:
    """Append a mapping but for its vector; returns its times."""
    if not isinstance(item, Mapping):
        raise StorageError(f"save_many: expected a dict at {index}, got {type(item).__name__}")
    _check_fields(item, index)
    memory_id = text(item["memory_id"], f"memory_id at {index}")
    content = text(item["content"], f"content of {memory_id!r}")
    metadata = metadata_json(item.get("metadata"), memory_id)
    times = [
        None if (value := item.get(field)) is None else micros_of(value, f"{field} of {memory_id!r}")
        for field in _TIMES
    ]
    columns.ids.append(memory_id)
    columns.contents.append(content)
    columns.metadata.append(metadata)
    return times


def _check_fields(item: Mapping[str, Any], index: int) -> None:
    if missing := {"memory_id", "content", "embedding"} - item.keys():
        raise StorageError(f"save_many: the dict at {index} lacks {', '.join(sorted(missing))}")
    if unknown := item.keys() - _FIELDS:
        names = ", ".join(sorted(map(str, unknown)))
        raise StorageError(
            f"save_many: the dict at {index} has unknown fields {names}; put them into metadata"
        )


def _times(
    created: Iterable[int | None], updated: Iterable[int | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Times that were not given are now, unless none was."""
    columns = [list(created), list(updated)]
    if all(value is None for values in columns for value in values):
        return None
    now = time.time_ns() // 1000
    first, second = (
        np.array([now if value is None else value for value in values], np.int64) for values in columns
    )
    return first, second


def text(value: object, which: str) -> str:
    """Check that a value is a text that UTF-8 can hold.

    Raises:
        StorageError: it is not.
    """
    if not isinstance(value, str):
        raise StorageError(f"{which}: expected a text, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"{which}: expected text that UTF-8 can hold, got {error}") from error
    return value


def _stack(vectors: list[Any], ids: list[str]) -> NDArray[np.float32]:
    if not vectors:
        return np.empty((0, 0), np.float32)
    if _are_float_rows(vectors):
        return np.stack(vectors)
    rows = [
        as_vector(vector, f"the embedding of {name!r}") for vector, name in zip(vectors, ids, strict=True)
    ]
    for row, name in zip(rows, ids, strict=True):
        if len(row) != len(rows[0]):
            raise DimensionError(
                f"the embedding of {name!r} has {counted(len(row), 'dimension')}, "
                f"that of {ids[0]!r} {len(rows[0])}"
            )
    return np.stack(rows)


def _are_float_rows(vectors: list[Any]) -> bool:
    """Whether these are vectors as an encoder gives them, which need no conversion one by one."""
    shape = np.shape(vectors[0]) if isinstance(vectors[0], np.ndarray) else ()
    return len(shape) == 1 and all(
        type(vector) is np.ndarray and vector.dtype == np.float32 and vector.shape == shape
        for vector in vectors
    )


def _arrow_columns(items: Any) -> Columns:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
    except ImportError as error:
        raise StorageError(
            "save_many: pyarrow is not installed; Arrow data needs it: pip install 'ai-os-diffusion[arrow]'"
        ) from error
    table = pa.table(items) if not isinstance(items, pa.RecordBatch) else pa.Table.from_batches([items])
    if missing := {"memory_id", "content", "embedding"} - set(table.column_names):
        raise StorageError(f"save_many: the Arrow table lacks the columns {', '.join(sorted(missing))}")
    for name in ("memory_id", "content", "embedding"):
        if table[name].null_count:
            raise StorageError(f"save_many: expected a value in every row of {name}, got nulls")
    ids = [text(value, "memory_id") for value in table["memory_id"].to_pylist()]
    contents = [text(value, "content") for value in table["content"].to_pylist()]
    metadata = ["{}"] * len(ids)
    if "metadata" in table.column_names:
        values = table["metadata"].to_pylist()
        metadata = [_arrow_metadata(value, name) for value, name in zip(values, ids, strict=True)]
    created, updated = (_arrow_times(pa, table, name, ids) for name in _TIMES)
    vectors = _arrow_vectors(pa, pc, table["embedding"], ids)
    return Columns(ids, contents, metadata, vectors, _times(created, updated))


def _arrow_times(pa: Any, table: Any, name: str, ids: list[str]) -> list[int | None]:
    """A column of times in microseconds; the type of a timestamp tells its unit."""
    if name not in table.column_names:
        return [None] * len(ids)
    column, unit = table[name], None
    if pa.types.is_timestamp(column.type):
        unit = column.type.unit
        column = column.cast(pa.int64())

    def micros(value: Any, memory_id: str) -> int | None:
        where = f"{name} of {memory_id!r}"
        if value is None:
            return None
        return micros_of(value, where) if unit is None else micros_in(value, unit, where)

    return [micros(value, memory_id) for value, memory_id in zip(column.to_pylist(), ids, strict=True)]


def _arrow_metadata(value: object, memory_id: str) -> str:
    """Metadata comes as JSON or as a struct."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise StorageError(f"metadata of {memory_id!r}: expected JSON, got {error}") from error
    if value is not None and not isinstance(value, Mapping):
        raise StorageError(f"metadata of {memory_id!r}: expected an object, got {type(value).__name__}")
    return metadata_json(value, memory_id)


def _arrow_vectors(pa: Any, pc: Any, column: Any, ids: list[str]) -> NDArray[np.float32]:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DimensionError(f"embedding: expected a column of lists of numbers, got {kind}")
    if not ids:
        return np.empty((0, 0), np.float32)
    lengths = np.unique(pc.list_value_length(column.combine_chunks()).to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise DimensionError(f"embedding: expected lists of one length, got {', '.join(map(str, lengths))}")
    flat = pc.list_flatten(column).to_numpy()
    return as_matrix(flat.reshape(len(ids), int(lengths[0])), "embedding")
