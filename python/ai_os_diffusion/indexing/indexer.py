"""Documents into the store: read, compared with what is held, embedded, committed in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.contracts import Chunk, Embedder
from ai_os_diffusion.ingestion import Change, Found, Ingestor, Ledger, Skipped, embedding_text
from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["AddProgress", "AddReport", "Indexer"]

# Passages embedded between two reports of progress; short enough that Ctrl-C is heard soon.
_SLICE = 64

Source = Found | Skipped | tuple[str, bytes]
"""A file to read, one that was passed by, or a named document that is here already."""


@dataclass
class AddReport:
    """What an `add` did. Only what is committed is counted.

    Attributes:
        files: documents by outcome: "added", "changed", "unchanged", "empty".
        passages: passages by outcome: "added" (embedded and stored), "updated" (only the metadata
            changed), "removed", "merged" (held already, from another place).
        skipped: files and folders that were passed by, with the reason.
        refused_lines: lines left out of documents that were taken, by document.
        fallback_encodings: files that are not UTF-8, by the encoding found.
        vanished: documents in the store whose file is gone; removed when pruning.
        bytes_read: size of the documents read.
        seconds: time taken.
        dry_run: nothing was embedded or changed.
    """

    files: dict[str, int] = field(
        default_factory=lambda: {"added": 0, "changed": 0, "unchanged": 0, "empty": 0}
    )
    passages: dict[str, int] = field(
        default_factory=lambda: {"added": 0, "updated": 0, "removed": 0, "merged": 0}
    )
    skipped: list[Skipped] = field(default_factory=list)
    refused_lines: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fallback_encodings: dict[str, int] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    bytes_read: int = 0
    seconds: float = 0.0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class AddProgress:
    """How far an `add` is.

    Attributes:
        bytes_done: bytes of the documents that are dealt with, by share of their passages.
        bytes_total: bytes of all of them.
        passages: passages embedded so far.
        seconds: time taken so far.
    """

    bytes_done: int
    bytes_total: int
    passages: int
    seconds: float


class Indexer:
    """Brings a store up to date with documents.

    Passages are embedded and committed `batch` at a time, so an interruption loses nothing that was
    reported, and running again goes on where it stopped. A document that takes the place of an earlier
    version does so in one commit, however long it is: memory holds the old one or the new one.
    """

    def __init__(
        self,
        embedder: Embedder,
        storage: ArrowStorage | None,
        ingestor: Ingestor,
        ledger: Ledger,
        *,
        batch: int = 256,
    ) -> None:
        """Wire.

        Args:
            embedder: makes the vectors.
            storage: where memories go; None only finds out what would be done.
            ingestor: reads and cuts documents.
            ledger: what the store holds.
            batch: passages embedded and committed together.
        """
        self._embedder = embedder
        self._storage = storage
        self._ingestor = ingestor
        self._ledger = ledger
        self._batch = batch
        self._added: dict[str, Chunk] = {}
        self._touched: set[str] = set()
        self._removed: set[str] = set()
        self._progress: Callable[[AddProgress], None] | None = None
        self._begun = time.monotonic()
        self._bytes_total = 0
        self._bytes_done = 0.0
        self._bytes_waiting = 0.0
        self._passages = 0
        self.report = AddReport(dry_run=storage is None)

    def add(
        self, sources: Iterable[Source], *, progress: Callable[[AddProgress], None] | None = None
    ) -> AddReport:
        """Take in documents; those the store holds in just this state cost only their reading.

        Args:
            sources: the documents.
            progress: called as the work goes on, several times for each commit.

        Raises:
            StorageError: a commit failed; what was committed before stays.
        """
        waiting = list(sources)
        self._progress, self._begun = progress, time.monotonic()
        self._bytes_total = sum(map(_size, waiting))
        self._tell()
        for source in waiting:
            self._take(source)
        self._commit()
        self.report.seconds = time.monotonic() - self._begun
        return self.report

    def drop_vanished(self, below: Iterable[Path], *, prune: bool) -> AddReport:
        """Find the documents of the store whose file is gone.

        Args:
            below: files and folders that were added; others are not looked at.
            prune: also remove their passages.
        """
        roots = [path.resolve() for path in below]
        for source in sorted(self._ledger.sources):
            path = Path(source)
            if not path.is_absolute() or not _is_gone(path):
                continue
            if any(root == path or root in path.parents for root in roots):
                self.report.vanished.append(source)
                if prune:
                    self._apply(self._ledger.replace(source, "", "", ()))
        self._commit()
        return self.report

    def _take(self, source: Source) -> None:
        """Deal with one document: nothing to do, or passages queued and committed batch by batch."""
        change, size = self._change(source), _size(source)
        if change is None:
            self._bytes_done += size
            return
        self.report.passages["merged"] += change.merged
        self._bytes_done += 0 if change.added else size
        for memory_id, chunk in change.added.items():
            self._removed.discard(memory_id)
            self._added[memory_id] = chunk
            self._bytes_waiting += size / len(change.added)
            # What replaces is committed whole; a document that is new may come piece by piece.
            if len(self._added) >= self._batch and not change.replaces:
                self._commit()
        self._apply(change)
        if len(self._added) >= self._batch:
            self._commit()

    def _change(self, source: Source) -> Change | None:
        """What a document changes; None when it is unchanged or cannot be read, which is reported."""
        if isinstance(source, Skipped):
            self.report.skipped.append(source)
            return None
        name = source[0] if isinstance(source, tuple) else str(source.path)
        try:
            data = source[1] if isinstance(source, tuple) else source.path.read_bytes()
            state = self._ingestor.digest(data)
            if self._ledger.is_current(name, state):
                self.report.files["unchanged"] += 1
                return None
            document, chunks = self._ingestor.passages(name, data)
        except IngestError as error:
            self.report.skipped.append(Skipped(name, str(error)))
            return None
        except OSError as error:
            self.report.skipped.append(Skipped(name, f"unreadable: {error.strerror}"))
            return None
        self.report.bytes_read += len(data)
        if document.refused_lines:
            self.report.refused_lines[name] = document.refused_lines
        if document.encoding not in (None, "utf-8", "utf-8-sig"):
            counts = self.report.fallback_encodings
            counts[str(document.encoding)] = counts.get(str(document.encoding), 0) + 1
        known = name in self._ledger.sources
        self.report.files["changed" if known else "added" if chunks else "empty"] += 1
        return self._ledger.replace(name, state, document.kind, chunks)

    def _apply(self, change: Change) -> None:
        """Queue what needs no embedding; removing what is only queued takes it off the queue."""
        for memory_id in change.removed:
            if self._added.pop(memory_id, None) is None:
                self._removed.add(memory_id)
        self._touched |= change.touched
        self._touched -= self._removed | self._added.keys()

    def _commit(self) -> None:
        """Embed and store what is queued and remove what it replaces, all in one durable commit."""
        counts = self.report.passages
        if self._storage is not None:
            memories = [*self._embedded(), *self._relabelled(self._storage)]
            self._storage.save_many(memories, in_place_of=sorted(self._removed))
        counts["added"] += len(self._added)
        counts["updated"] += len(self._touched)
        counts["removed"] += len(self._removed)
        self._added, self._touched, self._removed = {}, set(), set()
        self._bytes_waiting = 0.0
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            seconds = time.monotonic() - self._begun
            self._progress(AddProgress(round(self._bytes_done), self._bytes_total, self._passages, seconds))

    def _embedded(self) -> Iterator[dict[str, Any]]:
        waiting = list(self._added.items())
        share = self._bytes_waiting / len(waiting) if waiting else 0.0
        for start in range(0, len(waiting), _SLICE):
            part = waiting[start : start + _SLICE]
            vectors = self._embedder.encode_document([embedding_text(chunk) for _, chunk in part])
            for (memory_id, chunk), vector in zip(part, vectors, strict=True):
                yield {
                    "memory_id": memory_id,
                    "content": chunk.text,
                    "embedding": vector,
                    "metadata": self._ledger.metadata(memory_id),
                }
            self._bytes_done += share * len(part)
            self._passages += len(part)
            self._tell()

    def _relabelled(self, storage: ArrowStorage) -> Iterator[dict[str, Any]]:
        for memory_id in sorted(self._touched):
            memory = storage.load(memory_id)
            if memory is not None:
                yield {
                    "memory_id": memory_id,
                    "content": memory["content"],
                    "embedding": memory["embedding"],
                    "metadata": self._ledger.metadata(memory_id),
                }


def _is_gone(path: Path) -> bool:
    """Whether a file is certainly not there; in a folder that may not be read it may well be."""
    try:
        return not path.exists()
    except OSError:
        return False


def _size(source: Source) -> int:
    if isinstance(source, Found):
        return source.size_bytes
    return len(source[1]) if isinstance(source, tuple) else 0
