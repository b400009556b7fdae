"""The durable memory store. It holds vectors it is given and never embeds."""

from __future__ import annotations

from ai_os_diffusion.storage.arrow_storage import ArrowStorage
from ai_os_diffusion.storage.hits import Candidate, Candidates, TextHits
from ai_os_diffusion.storage.manifest import is_store
from ai_os_diffusion.storage.memory_view import MemoryView
from ai_os_diffusion.storage.records import holds_for_all

__all__ = [
    "ArrowStorage",
    "Candidate",
    "Candidates",
    "MemoryView",
    "TextHits",
    "holds_for_all",
    "is_store",
]
