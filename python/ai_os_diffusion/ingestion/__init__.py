"""Documents to passages: read, cut along structure, and compared with what the store holds."""

from __future__ import annotations

from ai_os_diffusion.ingestion.chunker import Chunker, context_line, embedding_text
from ai_os_diffusion.ingestion.corpus.corpus import Found, Skipped, walk
from ai_os_diffusion.ingestion.document import Block, Document, Remark, spans
from ai_os_diffusion.ingestion.ingestor import Ingestor
from ai_os_diffusion.ingestion.ledger import Ledger
from ai_os_diffusion.ingestion.passage import Passage, Place, digest
from ai_os_diffusion.ingestion.reader import read_document
from ai_os_diffusion.ingestion.reading import Reading

__all__ = [
    "Block",
    "Chunker",
    "Document",
    "Found",
    "Ingestor",
    "Ledger",
    "Passage",
    "Place",
    "Reading",
    "Remark",
    "Skipped",
    "context_line",
    "digest",
    "embedding_text",
    "read_document",
    "spans",
    "walk",
]
