"""An indexer on a store of its own, with an embedder whose vectors say which text they are of."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ai_os_diffusion.ingestion import Ingestor, Ledger, passage_text
from ai_os_diffusion.runtime.indexing import Indexer
from ai_os_diffusion.storage import ArrowStorage
from ai_os_diffusion.utils.errors import InferenceError


class Embedder:
    """A vector from the digest of each text; some texts are more than it can take."""

    dimension = 8

    def __init__(self):
        self.texts = []
        self.is_broken = False

    def encode_document(self, texts):
        if self.is_broken or any("no embedding" in text for text in texts):
            raise InferenceError("too much")
        self.texts += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text):
        if "not a number" in text:
            return np.full(8, np.nan, np.float32)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        vector = np.frombuffer(digest, np.uint8).astype(np.float32) + 1
        return np.append(vector, 1).astype(np.float32) if "one number more" in text else vector


def words(texts):
    return np.array([len(text.split()) for text in texts])


class Library:
    """A store, and documents that are added to it."""

    def __init__(self, folder):
        self.store = ArrowStorage(folder)
        self.embedder = Embedder()
        self.ingestor = Ingestor(words, max_tokens=8)

    def indexer(self, *, batch=256, dry_run=False):
        ledger = Ledger(self.store.iter_metadata())
        storage = None if dry_run else self.store
        return Indexer(self.embedder, storage, self.ingestor, ledger, memories=self.store, batch=batch)

    def add(self, *sources, batch=256, dry_run=False):
        return self.indexer(batch=batch, dry_run=dry_run).add(sources)

    def places(self):
        """(source, line, text) of every place of every memory, without the titles above."""
        return [
            (place["source"], place["line"], passage_text(memory["content"], memory["metadata"]["headings"]))
            for memory in self.store
            for place in (memory["metadata"], *memory["metadata"].get("also", ()))
        ]


@pytest.fixture
def library(tmp_path):
    with_store = Library(tmp_path / "store")
    yield with_store
    with_store.store.close()
