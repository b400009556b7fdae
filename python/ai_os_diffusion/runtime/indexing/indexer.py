"""Indexer: brings a store up to date with documents."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ai_os_diffusion.contracts import Chunk
from ai_os_diffusion.ingestion import (
    Found,
    Ingestor,
    Ledger,
    Passage,
    Place,
    Reading,
    Remark,
    Skipped,
    digest,
    embedding_text,
    spans,
    stored_text,
)
from ai_os_diffusion.runtime.indexing.arrival import Arrival, QueuedPassage
from ai_os_diffusion.runtime.indexing.pending_changes import PendingChanges, Row
from ai_os_diffusion.runtime.indexing.report import AddProgress, AddReport, DocumentReport, Outcome
from ai_os_diffusion.runtime.indexing.text_vectors import embed_each
from ai_os_diffusion.storage import ArrowStorage, MemoryView
from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["Indexer", "Source"]

Source = Found | Skipped | tuple[str, bytes]
"""A file to read, one that was passed by, or a named document that is here already."""


class Indexer:
    """Brings a store up to date with documents.

    Passages are embedded and committed `batch` at a time, whatever documents they are of, so an interruption
    loses nothing that was reported, and running again goes on where it stopped. A document that takes the
    place of an earlier version does so in one commit, however long it is: memory holds the old one or the new
    one. What one document holds, or fails at, concerns no other.
    """

    def __init__(
        self,
        embedder: EmbeddingProvider,
        storage: ArrowStorage | None,
        ingestor: Ingestor,
        ledger: Ledger,
        *,
        memories: MemoryView | None = None,
        batch: int = 256,
    ) -> None:
        """Wire.

        Args:
            embedder: makes the vectors.
            storage: where memories go; None only finds out what would be done.
            ingestor: reads and cuts documents.
            ledger: what the store holds.
            memories: the store, for reading, where `storage` is None and there is one.
            batch: passages embedded and committed together.
        """
        self._embedder = embedder
        self._ingestor = ingestor
        self._ledger = ledger
        self._batch = batch
        self._is_dry = storage is None
        self._pending = PendingChanges(storage, memories if storage is None else storage)
        self._queue: list[QueuedPassage] = []
        self._queued: set[str] = set()
        self._reading: Reading | None = None
        self._progress: Callable[[AddProgress], None] | None = None
        self._begun = time.monotonic()
        self._bytes_total = self._bytes_done = self._embedded = 0
        self.report = AddReport(dry_run=self._is_dry)

    def add(
        self, sources: Iterable[Source], *, progress: Callable[[AddProgress], None] | None = None
    ) -> AddReport:
        """Take in documents; those the store holds in just this state cost only their reading.

        Args:
            sources: the documents.
            progress: called as the work goes on, several times for each commit.

        Raises:
            StorageError: a commit failed; what was committed before stays.
            InferenceError: the embedder fails, whatever it is given; the same holds.
        """
        waiting = list(sources)
        self._progress, self._begun = progress, time.monotonic()
        self._bytes_total = sum(map(_size, waiting))
        self._tell()
        for source in waiting:
            if isinstance(source, Skipped):
                self._pass_by(source)
            else:
                self._take(source)
                self._reading = None
                self._bytes_done += _size(source)
        self._settle()
        self.report.seconds = time.monotonic() - self._begun
        return self.report

    def drop_vanished(self, below: Iterable[Path], *, prune: bool) -> AddReport:
        """Find the documents of the store whose file is gone.

        Args:
            below: files and folders that were added; others are not looked at.
            prune: also remove their passages; else they are marked as not readable.
        """
        roots = [path.resolve() for path in below]
        for source in sorted(self._ledger.sources):
            path = Path(source)
            if not path.is_absolute() or not _is_gone(path):
                continue
            if any(root == path or root in path.parents for root in roots):
                self.report.vanished.append(source)
                if prune:
                    self._withdraw(Arrival(source, "", replaces=True))
                else:
                    self._mark(source)
        self._commit()
        return self.report

    def _take(self, source: Found | tuple[str, bytes]) -> None:
        """Deal with one document: nothing to do, or passages queued and settled batch by batch."""
        name = source[0] if isinstance(source, tuple) else str(source.path)
        if name in self._queued:
            self._settle()
        try:
            reading = self._ingestor.open(name, source[1] if isinstance(source, tuple) else source.path)
            if self._ledger.is_current(name, reading.state):
                self._tell_of(name, "unchanged", passages=len(self._ledger.memories_of(name)))
                return
        except IngestError as error:
            self._give_up(name, str(error))
            return
        arrival = Arrival(name, reading.state, self._ledger.replaces(name, reading.state), reading)
        self._reading = reading
        self._tell()
        self._queued.add(name)
        try:
            for chunk, is_last in _with_last(reading.chunks()):
                content_hash = digest(embedding_text(chunk))
                self._queue.append(QueuedPassage(arrival, chunk, is_last, content_hash))
                if len(self._queue) >= self._batch:
                    self._settle(arrival)
        except IngestError as error:
            self._queue = [event for event in self._queue if event.arrival is not arrival]
            self._queued.discard(name)
            self._undo(arrival)
            self._give_up(name, str(error))
            return
        self._queue.append(QueuedPassage(arrival))
        if len(self._queue) >= self._batch or (arrival.replaces and arrival.placed):
            self._settle()

    def _pass_by(self, skipped: Skipped) -> None:
        """Report what `walk` left out, and what the store holds of it."""
        if skipped.kind == "ignored":
            self.report.ignored.append(skipped)
            return
        kept = 0
        if skipped.kind == "unreadable":
            path = os.path.realpath(skipped.path)
            below = f"{path}/"
            held = sorted(self._ledger.sources)
            first = bisect_left(held, below)
            sources = [source for source in held[first:] if source.startswith(below)]
            kept = sum(map(self._mark, [path, *sources]))
        self.report.documents.append(
            DocumentReport(skipped.path, "skipped", reason=skipped.reason, kept=kept)
        )

    def _give_up(self, name: str, reason: str) -> None:
        """Report a document that cannot be read; what the store holds of it stays, marked."""
        self._tell_of(name, "skipped", reason=reason, kept=self._mark(name))

    def _settle(self, unfinished: Arrival | None = None) -> None:
        """Embed, enter and commit what is queued; what replaces is only staged before it is whole."""
        queue, self._queue, self._queued = self._queue, [], {unfinished.source} if unfinished else set()
        if unfinished is None or not unfinished.replaces:
            self._enter(queue)
            self._commit()
            return
        begin = next(index for index, event in enumerate(queue) if event.arrival is unfinished)
        if begin or not unfinished.placed:
            # What is staged may be thrown away with the document; nothing of others is among it.
            self._enter(queue[:begin])
            self._commit()
        self._enter(queue[begin:])
        self._pending.stage()

    def _enter(self, events: Sequence[QueuedPassage]) -> None:
        known = {event.content_hash: self._ledger.memory_of(event.content_hash) for event in events}
        rows = self._pending.load(memory_id for memory_id in known.values() if memory_id)
        vectors: dict[str, Any] = {row.passage.content_hash: row.embedding for row in rows.values()}
        fresh = {
            event.content_hash: embedding_text(event.chunk)
            for event in events
            if event.chunk and event.content_hash not in vectors
        }
        if not self._is_dry:
            embedded = embed_each(self._embedder, list(fresh.values()), self._tell_embedded)
            vectors.update(zip(fresh, embedded, strict=True))
        for event in events:
            if event.chunk is None:
                self._finish(event.arrival)
            else:
                self._place(event, event.chunk, vectors.get(event.content_hash))

    def _place(self, event: QueuedPassage, chunk: Chunk, vector: Any) -> None:
        """Enter one passage: a place of a memory that is known, or a new one."""
        arrival, content_hash = event.arrival, event.content_hash
        if isinstance(vector, str):
            lines = arrival.lost.setdefault(vector, [])
            lines += range(chunk.line, chunk.end_line + 1)
            return
        memory_id = self._ledger.memory_of(content_hash)
        row = self._pending.load([memory_id]).get(memory_id) if memory_id else None
        is_known = row is not None
        if row is not None and memory_id not in arrival.placed:
            row.passage.leave(arrival.source)
        if row is None and memory_id and self._is_dry:
            # One that this run would have made.
            self._count(arrival, memory_id)
            self.report.passages["merged"] += 1
            return
        self.report.passages["merged"] += bool(row and row.passage.places)
        content = stored_text(chunk)
        if row is None or not row.passage.has_room:
            memory_id = self._ledger.new_memory(arrival.source, content_hash)
            assert arrival.reading is not None
            common = {"kind": arrival.reading.kind, "headings": list(chunk.headings)}
            passage = Passage(memory_id, content_hash, common)
            row = Row(passage, content, vector, counts=not is_known)
            self._pending.add(row)
            if arrival.replaces:
                arrival.created.append((content_hash, memory_id))
        # Stores of before hold the text without titles.
        row.content = content
        total = arrival.passages + 1 if event.is_last and not arrival.lost else 0
        row.passage.places.append(
            Place(
                arrival.source,
                arrival.state,
                arrival.passages,
                total,
                chunk.line,
                chunk.end_line,
                chunk.metadata,
            )
        )
        self._count(arrival, row.passage.memory_id)

    def _count(self, arrival: Arrival, memory_id: str) -> None:
        arrival.placed[memory_id] = None
        arrival.passages += 1

    def _finish(self, arrival: Arrival) -> None:
        """A document is whole: what it does not hold any more goes."""
        reading = arrival.reading
        assert reading is not None
        is_known = arrival.source in self._ledger.sources
        self._withdraw(arrival)
        remarks = list(reading.remarks)
        for reason, lines in arrival.lost.items():
            remarks.append(Remark("refused", reason, lines=spans(lines)))
        self.report.bytes_read += reading.size_bytes
        if reading.encoding not in (None, "utf-8", "utf-8-sig"):
            counts = self.report.fallback_encodings
            counts[str(reading.encoding)] = counts.get(str(reading.encoding), 0) + 1
        if arrival.lost and not arrival.passages:
            self._tell_of(arrival.source, "failed", reason=next(iter(arrival.lost)), remarks=remarks)
            return
        outcome: Outcome = "changed" if is_known else "added" if arrival.passages else "empty"
        self._tell_of(arrival.source, outcome, passages=arrival.passages, remarks=remarks)

    def _withdraw(self, arrival: Arrival) -> None:
        """Take the places of earlier states out of the store, and note what is held now."""
        stale = [key for key in self._ledger.memories_of(arrival.source) if key not in arrival.placed]
        self._amend(stale, lambda passage: passage.leave(arrival.source), is_whole=arrival.replaces)
        state = None if arrival.lost else arrival.state
        self._ledger.enter(arrival.source, arrival.placed, state, arrival.passages)

    def _undo(self, arrival: Arrival) -> None:
        """Take back a document of which passages were entered, and which cannot be read to its end."""
        if arrival.replaces:
            self._pending.discard()
            for content_hash, memory_id in arrival.created:
                self._ledger.forget_memory(content_hash, memory_id)
        elif arrival.placed:
            self._ledger.enter(arrival.source, arrival.placed, None, arrival.passages)
            self._withdraw(Arrival(arrival.source, "", replaces=False))

    def _mark(self, source: str) -> int:
        """Note in the passages of a document that it cannot be read; returns how many there are."""
        if source in self._queued:
            self._settle()
        memory_ids = self._ledger.memories_of(source)
        if memory_ids and self._ledger.is_readable(source):
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._amend(memory_ids, lambda passage: passage.mark(source, now), is_whole=False)
            self._ledger.mark(source)
        return len(memory_ids)

    def _amend(self, memory_ids: Sequence[str], change: Callable[[Passage], None], *, is_whole: bool) -> None:
        """Change places of many memories, in one commit if `is_whole`."""
        for start in range(0, len(memory_ids), self._batch):
            for passage in self._pending.amend(memory_ids[start : start + self._batch], change):
                self._ledger.forget_memory(passage.content_hash, passage.memory_id)
            if len(self._pending) >= self._batch:
                if is_whole:
                    self._pending.stage()
                else:
                    self._commit()

    def _commit(self) -> None:
        """Write what is pending, and count it."""
        done = self._pending.commit()
        counts = self.report.passages
        counts["added"] += done.added
        counts["updated"] += done.updated
        counts["removed"] += done.removed
        for passage, reason in done.refused:
            self._tell_refused(passage, reason)
        self._tell()

    def _tell_refused(self, passage: Passage, reason: str) -> None:
        """Note at its documents that the store does not take a passage."""
        self._ledger.forget_memory(passage.content_hash, passage.memory_id)
        for place in passage.places:
            remark = Remark("refused", reason, lines=((place.line, place.end_line),))
            for index, document in enumerate(self.report.documents):
                if document.path == place.source:
                    told = replace(document, remarks=(*document.remarks, remark))
                    self.report.documents[index] = told

    def _tell_of(
        self,
        name: str,
        outcome: Outcome,
        *,
        passages: int = 0,
        reason: str = "",
        remarks: Sequence[Remark] = (),
        kept: int = 0,
    ) -> None:
        report = DocumentReport(name, outcome, passages, reason, tuple(remarks), kept)
        self.report.documents.append(report)

    def _tell_embedded(self, count: int) -> None:
        self._embedded += count
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            seconds = time.monotonic() - self._begun
            done = self._bytes_done + (self._reading.bytes_done if self._reading else 0)
            # A compressed file has more bytes than its size when it was listed.
            done = min(done, self._bytes_total)
            name = self._reading.source if self._reading else ""
            self._progress(AddProgress(done, self._bytes_total, self._embedded, seconds, name))


def _with_last(chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, bool]]:
    """Each passage, and whether it is the last one."""
    held: Chunk | None = None
    for chunk in chunks:
        if held is not None:
            yield held, False
        held = chunk
    if held is not None:
        yield held, True


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
