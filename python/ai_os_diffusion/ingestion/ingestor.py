"""Ingestor: the bytes of a document in, its passages out. It neither embeds nor stores."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ai_os_diffusion.contracts import TokenCounter
from ai_os_diffusion.ingestion.chunker import Chunker
from ai_os_diffusion.ingestion.reading import Reading

__all__ = ["Ingestor"]

# Raised when a reader or the chunker changes what it makes of the same bytes.
_RECIPE = 13


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
        recipe = f"{_RECIPE} {max_tokens} {overlap}".encode()
        self._key = hashlib.blake2b(recipe).digest()

    def open(self, source: str, content: bytes | Path) -> Reading:
        """Look at a document; its passages come from what is returned.

        Args:
            source: its path or name.
            content: its bytes, or the file that holds them.

        Raises:
            IngestError: it cannot be read.
        """
        return Reading(source, content, self._key, self._chunker)
