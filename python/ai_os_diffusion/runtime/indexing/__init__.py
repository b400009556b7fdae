"""Documents into the store: read, compared with what is held, embedded, committed in batches."""

from __future__ import annotations

from ai_os_diffusion.runtime.indexing.indexer import Indexer, Source
from ai_os_diffusion.runtime.indexing.report import AddProgress, AddReport, DocumentReport

__all__ = ["AddProgress", "AddReport", "DocumentReport", "Indexer", "Source"]
