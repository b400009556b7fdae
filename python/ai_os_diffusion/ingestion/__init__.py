"""Documents to passages: read, cut along structure, and compared with what the store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.utils import imported_on_use

if TYPE_CHECKING:
    from ai_os_diffusion.ingestion.chunker import (
        Chunker,
        context_line,
        embedding_text,
        passage_text,
        stored_text,
    )
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
    "passage_text",
    "read_document",
    "spans",
    "stored_text",
    "walk",
]

__getattr__ = imported_on_use(
    {
        "Chunker": "ingestion.chunker",
        "context_line": "ingestion.chunker",
        "embedding_text": "ingestion.chunker",
        "passage_text": "ingestion.chunker",
        "stored_text": "ingestion.chunker",
        "Found": "ingestion.corpus.corpus",
        "Skipped": "ingestion.corpus.corpus",
        "walk": "ingestion.corpus.corpus",
        "Block": "ingestion.document",
        "Document": "ingestion.document",
        "Remark": "ingestion.document",
        "spans": "ingestion.document",
        "Ingestor": "ingestion.ingestor",
        "Ledger": "ingestion.ledger",
        "Passage": "ingestion.passage",
        "Place": "ingestion.passage",
        "digest": "ingestion.passage",
        "read_document": "ingestion.reader",
        "Reading": "ingestion.reading",
    }
)
