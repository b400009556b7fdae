"""Ingestor: the bytes of a document in, its passages out. It neither embeds nor stores."""

from __future__ import annotations

import hashlib

from ai_os_diffusion.contracts import Chunk, TokenCounter
from ai_os_diffusion.ingestion.chunker import Chunker
from ai_os_diffusion.ingestion.document import Document
from ai_os_diffusion.ingestion.reader import read_document

__all__ = ["Ingestor"]

# Raised when a reader or the chunker changes what it makes of the same bytes.
_RECIPE = 3


class Ingestor:
    """Cuts documents to the measure of an encoder."""

    def __init__(self, counter: TokenCounter, *, max_tokens: int = 200, overlap: int = 0) -> None:
        """Set the measure.

        Args:
            counter: counts tokens as the encoder will.
            max_tokens: most tokens of a passage, a bit below the encoder's window.
            overlap: tokens that a passage repeats from the one before.
        """
        self._chunker = Chunker(counter, max_tokens=max_tokens, overlap=overlap)
        self._recipe = f"{_RECIPE} {max_tokens} {overlap}".encode()

    def digest(self, data: bytes) -> str:
        """Name a state of a document: its bytes, and everything that decides what becomes of them."""
        return hashlib.blake2b(data, digest_size=16, key=hashlib.blake2b(self._recipe).digest()).hexdigest()

    def passages(self, source: str, data: bytes) -> tuple[Document, list[Chunk]]:
        """Read a document and cut it.

        Raises:
            IngestError: it cannot be read.
        """
        document = read_document(source, data)
        return document, self._chunker.chunk(document)
