"""Reading memories: what a store and a snapshot of one have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

import numpy as np

from ai_os_diffusion import _native
from ai_os_diffusion.contracts import Memory
from ai_os_diffusion.storage.jsonl import write_lines
from ai_os_diffusion.storage.records import filter_json
from ai_os_diffusion.storage.searchable import Metric, Row, Searchable, as_memory
from ai_os_diffusion.storage.times import iso_time
from ai_os_diffusion.utils.errors import MemoryNotFoundError, StorageError
from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["MemoryView", "Metric", "Snapshot"]

T = TypeVar("T")

_BATCH_ROWS = 1024


class MemoryView(Searchable):
    """The reading half of a store.

    Filters are mappings as in MongoDB: `{"kind": "note", "size": {"$gte": 3}}`, with the operators `$eq $ne
    $gt $gte $lt $lte $in $nin $exists $prefix $and $or $nor $not`. A name is a path into the metadata, with
    dots; `@id`, `@created_at` and `@updated_at` (seconds since the epoch) are the memory's own. An array
    satisfies a condition when it or one of its elements does; `None` equals a missing name.
    """

    @property
    def model(self) -> str | None:
        """What made the vectors; None when the store was not told."""
        return self._view().model

    @property
    def dimension(self) -> int | None:
        """Length of the vectors; None before the first."""
        return self._view().dimension

    def load(self, memory_id: str) -> Memory | None:
        """Read one memory, or None when there is none of that id.

        Raises:
            StoreCorruptedError: its bytes fail their checksum.
        """
        row = self._view().load(memory_id)
        return None if row is None else as_memory(row)

    def load_many(self, memory_ids: Iterable[str]) -> list[Memory | None]:
        """Read several memories at once, each as `load` does.

        Raises:
            StoreCorruptedError: bytes of one fail their checksum.
        """
        rows = self._view().load_many(list(memory_ids))
        return [None if row is None else as_memory(row) for row in rows]

    @overload
    def get(self, memory_id: str) -> Memory | None: ...
    @overload
    def get(self, memory_id: str, default: T) -> Memory | T: ...

    def get(self, memory_id: str, default: T | None = None) -> Memory | T | None:
        """Read one memory, or `default` when there is none of that id.

        Raises:
            StoreCorruptedError: its bytes fail their checksum.
        """
        memory = self.load(memory_id)
        return default if memory is None else memory

    def __getitem__(self, memory_id: str) -> Memory:
        """Read one memory.

        Raises:
            MemoryNotFoundError: there is none of that id; it is a `KeyError` too.
            StoreCorruptedError: its bytes fail their checksum.
        """
        if not isinstance(memory_id, str):
            raise StorageError(f"memory_id: expected a text, got {type(memory_id).__name__}")
        memory = self.load(memory_id)
        if memory is None:
            raise MemoryNotFoundError(f"there is no memory {memory_id!r}; iterating over the store gives all")
        return memory

    def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """Number of memories, of all or of those that satisfy a filter."""
        return self._view().count(filter_json(filter))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def __contains__(self, memory_id: object) -> bool:
        return isinstance(memory_id, str) and self._view().load(memory_id) is not None

    def iter(self, filter: Mapping[str, Any] | None = None) -> Iterator[Memory]:
        """Go through the memories in the order of their ids, as they are when the iteration begins."""
        for batch in self._batches(filter):
            for row in batch:
                yield as_memory(row)

    def iter_metadata(self, filter: Mapping[str, Any] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Go through id and metadata of the memories in the order of their ids; nothing else is read."""
        scan = self._view().scan(filter_json(filter))
        while batch := scan.next_metadata(_BATCH_ROWS):
            for memory_id, metadata in batch:
                if metadata is not None:
                    yield memory_id, json.loads(metadata)

    def __iter__(self) -> Iterator[Memory]:
        return self.iter()

    def _batches(self, filter: Mapping[str, Any] | None) -> Iterator[list[Row]]:
        scan = self._view().scan(filter_json(filter))
        while batch := scan.next_batch(_BATCH_ROWS):
            yield batch

    def to_arrow(self, filter: Mapping[str, Any] | None = None) -> Any:
        """Copy the memories into a `pyarrow.Table`; metadata is JSON, embedding a list of fixed size.

        Raises:
            StorageError: pyarrow is not installed.
        """
        pa = _optional("pyarrow")
        view = self._view()
        time = pa.timestamp("us", tz="UTC")
        schema = pa.schema(
            [
                ("memory_id", pa.string()),
                ("content", pa.string()),
                ("metadata", pa.string()),
                ("created_at", time),
                ("updated_at", time),
                ("embedding", pa.list_(pa.float32(), view.dimension or 0)),
            ]
        )
        batches = []
        scan = view.scan(filter_json(filter))
        while rows := scan.next_batch(_BATCH_ROWS):
            *columns, embeddings = zip(*rows, strict=True)
            arrays = [pa.array(list(values), schema.field(i).type) for i, values in enumerate(columns)]
            flat = pa.array(np.concatenate(embeddings))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, view.dimension))
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return pa.Table.from_batches(batches, schema=schema)

    def to_polars(self, filter: Mapping[str, Any] | None = None) -> Any:
        """Copy the memories into a `polars.DataFrame`.

        Raises:
            StorageError: polars or pyarrow is not installed.
        """
        return _optional("polars").from_arrow(self.to_arrow(filter))

    def to_duckdb(self, filter: Mapping[str, Any] | None = None) -> Any:
        """Copy the memories into a relation of an in-memory DuckDB, to be asked in SQL.

        Raises:
            StorageError: duckdb or pyarrow is not installed.
        """
        return _optional("duckdb").connect().from_arrow(self.to_arrow(filter))

    def export_parquet(self, path: str | os.PathLike[str]) -> int:
        """Write the memories to one Parquet file with a checksum, replaced atomically.

        Returns:
            How many.

        Raises:
            StorageError: the store has never held a memory, or the file cannot be written.
        """
        return self._view().export_parquet(os.fspath(path))

    def export_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Write the memories as JSON, one a line, replaced atomically; times in ISO 8601.

        Each line names the model that made its vector, when that is known. The first one also holds a
        checksum of the file, under `export`.

        Returns:
            How many.

        Raises:
            StorageError: the file cannot be written.
        """
        view = Snapshot(self._view())
        made_by = {"model": view.model} if view.model else {}
        try:
            with replacing(path) as draft, draft.open("wb") as file:
                return write_lines(file, ({**_plain(memory), **made_by} for memory in view))
        except OSError as error:
            raise StorageError(f"cannot write {os.fspath(path)}: {error.strerror}") from error


class Snapshot(MemoryView):
    """A store as it was at one commit. It stays so whatever is written, and needs no closing."""

    def __init__(self, view: _native.Snapshot) -> None:
        self._snapshot = view

    def _view(self) -> _native.Snapshot:
        return self._snapshot

    @property
    def version(self) -> int:
        """Number of the last commit it holds."""
        return self._snapshot.version


def _plain(memory: Memory) -> dict[str, Any]:
    return {
        **memory,
        "embedding": memory["embedding"].tolist(),
        "created_at": iso_time(memory["created_at"]),
        "updated_at": iso_time(memory["updated_at"]),
    }


def _optional(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StorageError(
            f"{module} is not installed; expected it for this call: pip install 'ai-os-diffusion[arrow]'"
        ) from error
