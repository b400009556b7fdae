"""Memories on their way into a store, which come in one commit, however many they are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ai_os_diffusion import _native
from ai_os_diffusion.storage.memory_view import Snapshot
from ai_os_diffusion.storage.records import columns_of, text

if TYPE_CHECKING:
    from typing_extensions import Self

    from ai_os_diffusion.contracts import Memory
    from ai_os_diffusion.storage.arrow_storage import ArrowStorage

__all__ = ["Staging", "remove_staged"]

_FOLDER = "staging"


def remove_staged(store: str) -> None:
    """Remove what is staged in the folder of a store; its writer's lock is held."""
    shutil.rmtree(Path(store, _FOLDER), ignore_errors=True)


class Staging:
    """A store within the folder of another, which takes it in whole.

    What is staged is on the disk, not in memory; nobody sees it before `commit`, and what a crash leaves of
    it is removed when the store is next opened for writing. The writer's lock on the store guards it too.
    """

    def __init__(self, target: ArrowStorage, store: _native.Store) -> None:
        """Begin; `ArrowStorage.staging` does.

        Args:
            target: the store that is to take it in.
            store: the same, as the extension knows it.
        """
        self._target = store
        self._target_path = target.path
        # Nothing here has to outlive a crash, so nothing is synced until the target writes it.
        self._staged = _native.Store(
            Path(target.path, _FOLDER),
            dimension=target.dimension,
            durability="none",
            model=target.model,
        )

    def save_many(self, memories: Iterable[Mapping[str, Any]]) -> int:
        """Stage memories; the last of equal ids wins, and one that has a `created_at` keeps it.

        Args:
            memories: as for `ArrowStorage.save_many`.

        Returns:
            How many.

        Raises:
            StorageError: a value does not fit, or the disk refuses; nothing of these is staged.
        """
        items = list(memories)
        columns = columns_of(items)
        if columns.ids:
            now = time.time_ns() // 1000
            created = [round(item["created_at"] * 1e6) if "created_at" in item else now for item in items]
            times = np.array(created, np.int64), np.full(len(items), now, np.int64)
            self._staged.save(columns.ids, columns.contents, columns.metadata, columns.embeddings, times)
        return len(columns.ids)

    def load_many(self, memory_ids: Iterable[str]) -> list[Memory | None]:
        """Read staged memories; None for one that is not staged."""
        return Snapshot(self._staged.snapshot()).load_many(memory_ids)

    def commit(self, *, in_place_of: Iterable[str] = ()) -> None:
        """Let the store take everything in durably, and in the same commit remove memories.

        Args:
            in_place_of: their ids, staged or not.

        Raises:
            StorageError: the disk refuses; the store is as it was.
        """
        gone = [text(memory_id, "memory_id") for memory_id in in_place_of]
        self._staged.delete(gone)
        self._target.absorb(self._staged.snapshot(), gone)

    def close(self) -> None:
        """Remove what is staged; what was committed is in the store."""
        del self._staged
        remove_staged(self._target_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
