"""Documents to passages: read, cut along structure, and compared with what the store holds."""

from __future__ import annotations

from ai_os_diffusion.ingestion.chunker import Chunker, context_line, embedding_text
from ai_os_diffusion.ingestion.corpus import Found, Skipped, walk
from ai_os_diffusion.ingestion.document import Block, Document, Remark
from ai_os_diffusion.ingestion.ingestor import Ingestor
from ai_os_diffusion.ingestion.ledger import Change, Ledger, Place
from ai_os_diffusion.ingestion.reader import read_document

__all__ = [
    "Block",
    "Change",
    "Chunker",
    "Document",
    "Found",
    "Ingestor",
    "Ledger",
    "Place",
    "Remark",
    "Skipped",
    "context_line",
    "embedding_text",
    "read_document",
    "walk",
]
