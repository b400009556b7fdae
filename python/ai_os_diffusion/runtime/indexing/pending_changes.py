"""What is to change in a store: memories that come, whose places change, or that go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.contracts import Metadata
from ai_os_diffusion.ingestion import Passage
from ai_os_diffusion.storage import ArrowStorage, MemoryView
from ai_os_diffusion.storage.staging import Staging
from ai_os_diffusion.utils.errors import StorageError

__all__ = ["Committed", "PendingChanges", "Row"]


@dataclass(slots=True)
class Row:
    """A memory that may change.

    Attributes:
        passage: it and its places, as they are to be.
        content: its text.
        embedding: float32[dim]; None in a dry run.
        before: its metadata in the store; None for a new one.
        created_at: seconds since the epoch; None for a new one.
        counts: it is reported as added or updated: not as one more memory of a known text, nor twice.
    """

    passage: Passage
    content: str
    embedding: Any
    before: Metadata | None = None
    created_at: float | None = None
    counts: bool = True

    @property
    def is_changed(self) -> bool:
        """Whether the store holds something else."""
        return self.before is None or self.before != self.passage.to_metadata()

    def to_memory(self) -> dict[str, Any]:
        """The memory to save."""
        memory = {
            "memory_id": self.passage.memory_id,
            "content": self.content,
            "embedding": self.embedding,
            "metadata": self.passage.to_metadata(),
        }
        return memory if self.created_at is None else {**memory, "created_at": self.created_at}


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit changed: numbers of memories, and those that the store refused, with the reason."""

    added: int
    updated: int
    removed: int
    refused: tuple[tuple[Passage, str], ...]


class PendingChanges:
    """Memories taken from the store, or new ones, until they are written back in one commit.

    When they become too many for one commit's memory they are staged on the disk, and the commit takes
    them from there.
    """

    def __init__(self, storage: ArrowStorage | None, memories: MemoryView | None) -> None:
        """Begin with none.

        Args:
            storage: where changes go; None only counts them.
            memories: what is there already, if anything.
        """
        self._storage = storage
        self._memories = memories
        self._staging: Staging | None = None
        self._rows: dict[str, Row] = {}
        self._gone: set[str] = set()
        self._added = self._updated = 0
        self._refused: list[tuple[Passage, str]] = []

    def __len__(self) -> int:
        """Memories that are kept in this process."""
        return len(self._rows)

    def load(self, memory_ids: Iterable[str]) -> dict[str, Row]:
        """The memories of some ids, as they are to be; those that nobody holds are left out."""
        wanted = list(dict.fromkeys(memory_ids))
        for source in (self._staging, self._memories):
            missing = [key for key in wanted if key not in self._rows and key not in self._gone]
            if source is None or not missing:
                continue
            for memory in source.load_many(missing):
                if memory is not None and memory["metadata"].get("content_hash"):
                    passage = Passage.of(memory["memory_id"], memory["metadata"])
                    self._rows[passage.memory_id] = Row(
                        passage,
                        memory["content"],
                        memory["embedding"],
                        memory["metadata"],
                        memory["created_at"],
                        counts=source is self._memories,
                    )
        return {key: self._rows[key] for key in wanted if key in self._rows}

    def add(self, row: Row) -> None:
        """Enter a memory that is new."""
        self._gone.discard(row.passage.memory_id)
        self._rows[row.passage.memory_id] = row

    def amend(self, memory_ids: Iterable[str], change: Callable[[Passage], None]) -> list[Passage]:
        """Change places of memories; returns those that have none any more, which are to go."""
        gone = []
        for memory_id, row in self.load(memory_ids).items():
            change(row.passage)
            if not row.passage.places:
                gone.append(row.passage)
                del self._rows[memory_id]
                if row.before is not None:
                    self._gone.add(memory_id)
        return gone

    def stage(self) -> None:
        """Move what there is to the disk; nobody sees it there before `commit`."""
        if self._storage is not None and self._staging is None:
            self._staging = self._storage.staging()
        self._write(None if self._staging is None else self._staging.save_many)

    def commit(self) -> Committed:
        """Write everything to the store in one durable commit.

        Raises:
            StorageError: the disk refuses; what was committed before stays.
        """
        gone = sorted(self._gone)
        storage = self._storage
        if self._staging is not None:
            self.stage()
            self._staging.commit(in_place_of=gone)
            self._end_staging()
        elif storage is None:
            self._write(None)
        elif self._rows or gone:
            self._write(lambda memories: storage.save_many(memories, in_place_of=gone))
        done = Committed(self._added, self._updated, len(gone), tuple(self._refused))
        self._reset()
        return done

    def discard(self) -> None:
        """Forget everything since the last commit; the store is as it was."""
        self._end_staging()
        self._rows.clear()
        self._reset()

    def _write(self, save: Callable[[list[Mapping[str, Any]]], object] | None) -> None:
        rows = [row for row in self._rows.values() if row.is_changed]
        if save is not None:
            try:
                save([row.to_memory() for row in rows])
            except StorageError:
                refused = self._refusals(rows)
                if not refused:
                    raise
                # A memory that does not fit costs itself alone.
                self._refused += [(rows[index].passage, reason) for index, reason in refused.items()]
                rows = [row for index, row in enumerate(rows) if index not in refused]
                save([row.to_memory() for row in rows])
        counted = [row for row in rows if row.counts]
        self._added += sum(row.before is None for row in counted)
        self._updated += sum(row.before is not None for row in counted)
        self._rows.clear()

    def _refusals(self, rows: list[Row]) -> dict[int, str]:
        """Why the store refuses which of some rows; none when it refuses to be written at all."""
        return {} if self._storage is None else dict(self._storage.refusals(row.to_memory() for row in rows))

    def _end_staging(self) -> None:
        if self._staging is not None:
            self._staging.close()
            self._staging = None

    def _reset(self) -> None:
        self._gone = set()
        self._added = self._updated = 0
        self._refused = []
