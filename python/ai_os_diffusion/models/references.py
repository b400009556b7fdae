"""What a model is asked for by: a name, a path, or a reference to a hub."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["hub_folder", "is_name", "looks_like_path"]


def hub_folder(ref: str) -> str:
    """Name of the folder of a model of a hub."""
    return ref.removeprefix("hf:").replace("/", "--")


def looks_like_path(given: str) -> bool:
    """Whether a reference can only be a path."""
    return not given.startswith("hf:") and (os.sep in given or given.startswith((".", "~")))


def is_name(given: str) -> bool:
    """Whether a reference may be the name of a model."""
    return not looks_like_path(given) and Path(given).suffix != ".gguf"
