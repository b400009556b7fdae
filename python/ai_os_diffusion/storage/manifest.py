"""The file that makes a folder a store."""

from __future__ import annotations

from pathlib import Path

from ai_os_diffusion.utils.errors import StorageError
from ai_os_diffusion.utils.files.regular_file import read_regular

__all__ = ["is_store"]

_SIGNATURE = b"aios-store "
# A line names a few files for each million of memories.
_MAX_BYTES = 1 << 24


def is_store(folder: Path) -> bool:
    """Whether a folder is a memory store, of any version and damaged or not; opens no store."""
    try:
        content = read_regular(folder / "MANIFEST", _MAX_BYTES, StorageError)
    except (OSError, StorageError):
        return False
    # The second line is there for the case that the first is damaged.
    return content.startswith(_SIGNATURE) or b"\n" + _SIGNATURE in content
