"""Folders that this program made, whose files are no documents."""

from __future__ import annotations

from pathlib import Path

from ai_os_diffusion.models.folder import is_model_folder
from ai_os_diffusion.storage import is_store

__all__ = ["refusal"]


def refusal(folder: Path) -> str:
    """Why nothing in a folder is a document; "" where it may be."""
    if is_store(folder):
        return "a memory store: what it holds is remembered already"
    if is_model_folder(folder):
        return "a model: its files are no documents"
    return ""
