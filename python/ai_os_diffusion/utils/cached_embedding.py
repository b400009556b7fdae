"""A cache before an embedding provider, keyed by content."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.utils.embedding_provider import EmbeddingProvider
from ai_os_diffusion.utils.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CachedEmbeddingProvider"]

_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
_ASKED = 500
"""Keys of one query; SQLite takes at least 999 variables."""

_PATIENCE_S, _PAUSE_S = 30.0, 0.01
"""How long another process is waited for, and how often it is looked for."""


class CachedEmbeddingProvider:
    """Remembers vectors by provider, purpose and text; safe across threads and processes.

    Args:
        provider: makes the vectors that are not remembered.
        path: an SQLite file, created if absent; None keeps the vectors in memory.
        fingerprint: distinguishes the provider's vectors from others in the file, for instance its
            model's name and revision; by default the provider's own `fingerprint`, or its class and
            dimension.

    Raises:
        InferenceError: the file cannot be opened or is no database.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        path: str | os.PathLike[str] | None = None,
        *,
        fingerprint: str | None = None,
    ) -> None:
        self.provider = provider
        own = getattr(provider, "fingerprint", None) or f"{type(provider).__name__} {provider.dimension}"
        self.fingerprint = fingerprint or str(own)
        self._path = ":memory:" if path is None else os.fspath(path)
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        try:
            # Autocommit: each statement is a transaction of its own, so no process waits for another's.
            self._base = sqlite3.connect(
                self._path, timeout=_PATIENCE_S, check_same_thread=False, isolation_level=None
            )
            _write_ahead(self._base)
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(_TABLE)
        except sqlite3.Error as error:
            raise InferenceError(f"{self._path}: cannot be used as an embedding cache: {error}") from error

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.provider.dimension

    def encode(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """The provider's `encode`, from memory where possible."""
        return self._encode(sentences, "text", self.provider.encode)

    def encode_query(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """The provider's `encode_query`, from memory where possible."""
        return self._encode(sentences, "query", self.provider.encode_query)

    def encode_document(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """The provider's `encode_document`, from memory where possible."""
        return self._encode(sentences, "document", self.provider.encode_document)

    def __len__(self) -> int:
        with self._lock:
            return int(self._base.execute("SELECT count(*) FROM vectors").fetchone()[0])

    def clear(self) -> None:
        """Forget every vector, those of other fingerprints too."""
        with self._lock:
            self._base.execute("DELETE FROM vectors")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def __enter__(self) -> CachedEmbeddingProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encode(
        self, sentences: str | Sequence[str], purpose: str, embed: Callable[[list[str]], NDArray[Any]]
    ) -> NDArray[Any]:
        import numpy as np

        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        keys = [self._key(purpose, text) for text in texts]
        known = self._known(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            made = np.asarray(embed(list(missing.values())), "<f4")
            rows = [(key, vector.tobytes()) for key, vector in zip(missing, made, strict=True)]
            self._remember(rows)
            known.update(rows)
        with self._lock:
            self.misses += len(missing)
            self.hits += len(texts) - len(missing)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = np.frombuffer(known[key], "<f4")
        return vectors[0] if isinstance(sentences, str) else vectors

    def _key(self, purpose: str, text: str) -> bytes:
        digest = hashlib.blake2b(digest_size=20)
        for part in (self.fingerprint, purpose, text):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.digest()

    def _known(self, keys: list[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _ASKED):
            part = keys[start : start + _ASKED]
            marks = ",".join("?" * len(part))
            with self._lock, self._guarded():
                query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"  # noqa: S608
                found.update(self._base.execute(query, part).fetchall())
        size = 4 * self.dimension
        return {key: vector for key, vector in found.items() if len(vector) == size}

    def _remember(self, rows: list[tuple[bytes, bytes]]) -> None:
        with self._lock, self._guarded():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _guarded(self) -> _Guard:
        return _Guard(self._path)


class _Guard:
    """Turns a database's error into one that names the file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise InferenceError(f"{self._path}: the embedding cache failed: {error}") from error


def _write_ahead(base: sqlite3.Connection) -> None:
    """Let readers and a writer go on beside each other.

    SQLite waits for locks, but not where two that open a new file both change its mode: one is told at once
    that it is locked.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            base.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
