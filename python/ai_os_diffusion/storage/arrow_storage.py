"""ArrowStorage: memories that survive."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ai_os_diffusion import _native
from ai_os_diffusion.storage.jsonl import read_batches
from ai_os_diffusion.storage.memory_view import MemoryView, Snapshot
from ai_os_diffusion.storage.records import as_vector, columns_of, filter_json, metadata_json, text
from ai_os_diffusion.storage.staging import Staging, remove_staged
from ai_os_diffusion.utils.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from ai_os_diffusion.contracts import Metadata

__all__ = ["ArrowStorage"]

_IN_MEMORY = ":memory:"


class ArrowStorage(MemoryView):
    """A durable store of memories: id, text, vector and metadata.

    A call that writes returns once the disk holds it, and its changes survive whole or not at all, whatever
    happens. One process writes at a time, under a lock of the operating system; any number read beside it
    with `read_only=True` and see every commit. Threads share a store freely. A forked process opens its own.

    Args:
        storage_path: the folder; made when there is none. By default the setting `storage.path`. `":memory:"`
            is a store of its own that lasts until it is closed or forgotten: a private folder among the
            temporary files, which nothing is waited for to reach the disk and which is removed then.
        dimension: length of the vectors; by default the first one decides.
        read_only: open beside a writer, for reading.
        durability: when a write returns: `commit`, when the disk holds it; `batch`, when the system does,
            the disk following within 100 ms or after 1 MiB of writes; `none`, the disk following on `flush`,
            `compact` and `close`.
        lock_timeout_s: how long to wait for another writer.
        model: what makes the vectors: a name, or `name@sha256:digest` with a digest of its weights. The store
            remembers the first one and refuses another, whose vectors would not compare.
        skip_damaged: with `read_only`, read around damaged parts in place of failing on them; `stats`
            tells what is skipped.

    Raises:
        StoreLockedError: another process is writing; the message names it.
        StoreCorruptedError: bytes on disk fail their checksum.
        DimensionError: the store holds vectors of another length.
        StorageError: the folder cannot be used, or holds a store of another model or a newer version.
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str] | None = None,
        *,
        dimension: int | None = None,
        read_only: bool = False,
        durability: Literal["commit", "batch", "none"] = "commit",
        lock_timeout_s: float = 0.0,
        model: str | None = None,
        skip_damaged: bool = False,
    ) -> None:
        if storage_path is None:
            from ai_os_diffusion.config import load_config

            storage_path = load_config().storage.path
        self._path = os.fspath(storage_path)
        self._remove: Callable[[], object] = lambda: None
        if self._path == _IN_MEMORY:
            if read_only:
                raise StorageError(f"read_only: expected False with {_IN_MEMORY!r}, which is new, got True")
            self._path, durability = tempfile.mkdtemp(prefix="aios-"), "none"
            self._remove = weakref.finalize(self, _remove_folder, self._path, os.getpid())
        if dimension is not None and dimension < 1:
            raise StorageError(f"dimension: expected a number >= 1, got {dimension}")
        self._store = _native.Store(
            self._path,
            dimension=dimension,
            read_only=read_only,
            durability=durability,
            lock_timeout_s=lock_timeout_s,
            model=model,
            skip_damaged=skip_damaged,
        )
        if not read_only:
            remove_staged(self._path)

    def _view(self) -> _native.Snapshot:
        return self._store.snapshot()

    @property
    def path(self) -> str:
        """The folder."""
        return self._path

    def save(
        self, memory_id: str, content: str, embedding: ArrayLike, metadata: Metadata | None = None
    ) -> None:
        """Store a memory durably, replacing the one of its id but for its `created_at`.

        Args:
            memory_id: its name, up to 1 KiB.
            content: its text, up to 64 MiB.
            embedding: float[dim], finite and not zero; kept in single precision.
            metadata: JSON values by name, up to 1 MiB and 127 levels; also scalars and arrays of NumPy, and
                dates, which are kept as texts in ISO 8601, in UTC when they have a zone.

        Raises:
            DimensionError: the vector does not fit; nothing is written.
            StorageError: another argument does not, or the disk refuses; nothing is written.
        """
        self._save_one(memory_id, content, embedding, metadata, new=False)

    upsert = save
    """What other stores call `save`."""

    def add(
        self, memory_id: str, content: str, embedding: ArrayLike, metadata: Metadata | None = None
    ) -> None:
        """Store a memory durably under an id that is new. Arguments are those of `save`.

        Raises:
            DimensionError: the vector does not fit; nothing is written.
            StorageError: there is a memory of that id, another argument does not fit, or the disk refuses;
                nothing is written.
        """
        self._save_one(memory_id, content, embedding, metadata, new=True)

    def _save_one(
        self, memory_id: str, content: str, embedding: ArrayLike, metadata: Metadata | None, *, new: bool
    ) -> None:
        vector = as_vector(embedding, f"the embedding of {memory_id!r}")
        self._store.save(
            [text(memory_id, "memory_id")],
            [text(content, f"content of {memory_id!r}")],
            [metadata_json(metadata, memory_id)],
            vector[None, :],
            new=new,
        )

    def save_many(
        self, memories: Iterable[Mapping[str, Any]] | Any, *, in_place_of: Iterable[str] = ()
    ) -> int:
        """Store memories in one durable commit: all of them or none. The last of equal ids wins.

        Args:
            memories: dicts with `memory_id`, `content`, `embedding` and optionally `metadata`, `created_at`
                and `updated_at`; or a pyarrow Table or RecordBatch, or anything with `__arrow_c_stream__`,
                with columns of these names. A time is a date, a text in ISO 8601 or seconds since the epoch,
                in Arrow data also a timestamp of any unit. Where some say theirs, the others are of now.
            in_place_of: ids of memories that the same commit removes: nobody ever sees both or neither. One
                that is also among `memories` stays.

        Returns:
            How many were given.

        Raises:
            DimensionError: a vector does not fit; nothing is written.
            StorageError: another value does not, or the disk refuses; nothing is written.
        """
        columns = columns_of(memories)
        gone = [text(memory_id, "memory_id") for memory_id in in_place_of]
        if columns.ids or gone:
            texts = (columns.ids, columns.contents, columns.metadata)
            self._store.save(*texts, columns.embeddings, columns.times, gone=gone)
        return len(columns.ids)

    def refusals(self, memories: Iterable[Mapping[str, Any]]) -> list[tuple[int, str]]:
        """Which of some memories `save_many` would refuse, by their place among them, and why.

        Args:
            memories: as for `save_many`.
        """
        refused = []
        for index, memory in enumerate(memories):
            try:
                columns = columns_of([memory])
                found = self._store.refusals(
                    columns.ids, columns.contents, columns.metadata, columns.embeddings
                )
            except StorageError as error:
                refused.append((index, str(error)))
            else:
                refused += [(index, reason) for _, reason in found]
        return refused

    def staging(self) -> Staging:
        """Memories on their way into this store, any number of them, that come in one commit."""
        return Staging(self, self._store)

    def update(
        self,
        memory_id: str,
        *,
        content: str | None = None,
        embedding: ArrayLike | None = None,
        metadata: Metadata | None = None,
    ) -> bool:
        """Replace the given parts of a memory durably; metadata is replaced whole.

        Returns:
            Whether there was a memory of that id.

        Raises:
            DimensionError: the vector does not fit; nothing is written.
            StorageError: another argument does not, or the disk refuses; nothing is written.
        """
        return self._store.update(
            text(memory_id, "memory_id"),
            None if content is None else text(content, f"content of {memory_id!r}"),
            None if metadata is None else metadata_json(metadata, memory_id),
            None if embedding is None else as_vector(embedding, f"the embedding of {memory_id!r}"),
        )

    def delete(self, memory_id: str) -> bool:
        """Remove a memory durably.

        Returns:
            Whether there was one.
        """
        return self.delete_many([memory_id]) == 1

    def delete_many(self, memory_ids: Iterable[str]) -> int:
        """Remove memories in one durable commit.

        Returns:
            How many there were.
        """
        return self._store.delete([text(memory_id, "memory_id") for memory_id in memory_ids])

    def delete_where(self, filter: Mapping[str, Any], *, everything: bool = False) -> int:
        """Remove the memories that satisfy a filter in one durable commit.

        Args:
            filter: which.
            everything: allow a filter that no memory could fail, such as an empty one.

        Returns:
            How many.

        Raises:
            StorageError: no memory could fail the filter, however it is written, and `everything` is not set;
                or it cannot be understood.
        """
        return self._store.delete_where(filter_json(filter) or "{}", everything)

    def snapshot(self) -> Snapshot:
        """A view of the store as it is now, which no later write changes."""
        return Snapshot(self._store.snapshot())

    def flush(self) -> None:
        """Move what is in the log into a Parquet segment. `close` does, and a log of 16 MiB does by itself.

        A segment of whose rows more than a quarter is gone is written again without them.
        """
        self._store.flush()

    def compact(self) -> None:
        """Write everything into one segment; of what was deleted or replaced no byte stays on the disk.

        Vectors and indexes that are damaged are made again.
        """
        self._store.compact()

    def rebuild_text_index(self) -> None:
        """Make the index that `search_text` reads again, whatever is there of it.

        There is rarely need: a store makes an index that is missing, damaged or of another version by
        itself, and `compact` looks for one that is.
        """
        self._store.rebuild_text_index()

    def verify(self) -> list[str]:
        """Read every byte and compare it with its checksum.

        Returns:
            What is damaged, each naming the file and the place; empty when all is well.
        """
        return self._store.verify()

    def stats(self) -> dict[str, Any]:
        """Figures: `count`, `dimension`, `model`, `segments`, `dead_rows`, `log_rows`, `table_bytes`,
        `vector_bytes`, `text_index_bytes`, `log_bytes`, `commits`, `format_version`, `torn_bytes`, `damage`.
        """  # noqa: D205
        return self._store.stats()

    def import_parquet(self, path: str | os.PathLike[str], *, verify: bool = True) -> int:
        """Store the memories of a Parquet file with the columns that `export_parquet` writes.

        `metadata` (JSON, a struct or a map), `created_at` and `updated_at` may be missing; a timestamp may be
        of any unit, a plain number is one of seconds. Rows are committed 8,192 at a time. An empty store
        takes over the model that made the file's vectors.

        Args:
            path: the file.
            verify: compare an exported file with its checksum before anything is stored. Files that other
                programs wrote have none and are taken as they are.

        Returns:
            How many.

        Raises:
            StorageError: the file cannot be read, fails its checksum or lacks a column, another model made
                its vectors, or a row is no memory; the message tells which.
            DimensionError: its vectors do not fit.
        """
        return self._store.import_parquet(os.fspath(path), verify)

    def import_jsonl(self, path: str | os.PathLike[str], *, verify: bool = True) -> int:
        """Store the memories of a file with one JSON object a line, as `export_jsonl` writes them.

        Times are optional, in ISO 8601 or in seconds since the epoch, and so is the model that made the
        vectors; an empty store takes it over. Lines are committed 8,192 at a time.

        Args:
            path: the file.
            verify: compare an exported file with its checksum before anything is stored. Files that other
                programs wrote have none and are taken as they are.

        Returns:
            How many.

        Raises:
            StorageError: the file cannot be read or fails its checksum, another model made its vectors, or a
                line is no memory; the message tells which.
            DimensionError: its vectors do not fit.
        """
        count = 0
        for batch in read_batches(os.fspath(path), verify=verify):
            if batch.model is not None:
                self._store.take_model(path, batch.model)
            columns = batch.columns
            texts = (columns.ids, columns.contents, columns.metadata)
            self._store.save(*texts, columns.embeddings, columns.times)
            count += len(columns.ids)
        return count

    def is_made_by(self, model: str) -> bool:
        """Whether the stored vectors compare with those of a model, `name` or `name@sha256:digest`.

        A digest counts only when both have one. Vectors of which nobody said what made them are taken to.
        """
        return self._store.is_made_by(model)

    def close(self) -> None:
        """Make everything durable, move it into Parquet segments and give up the lock.

        Closing twice is no error, and closing what did not change writes nothing. When there is no room for a
        segment, the log goes on holding what it holds.

        Raises:
            StorageError: what was saved could not be made durable, now or earlier under `durability="batch"`;
                closing again says so again. Opening anew shows what is there and makes that durable.
        """
        self._store.close()
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ArrowStorage({self._path!r})"


def _remove_folder(path: str, made_by: int) -> None:
    """Remove the folder of a store in memory, which a forked process did not make."""
    if os.getpid() == made_by:
        shutil.rmtree(path, ignore_errors=True)
