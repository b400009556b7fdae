"""What memories hold, as values that can be compared."""

from __future__ import annotations

from collections.abc import Iterable


def plain(memories: Iterable) -> list[tuple]:
    """(id, text, metadata, vector, created, updated) of each."""
    return [
        (
            memory["memory_id"],
            memory["content"],
            memory["metadata"],
            memory["embedding"].tolist(),
            memory["created_at"],
            memory["updated_at"],
        )
        for memory in memories
    ]
