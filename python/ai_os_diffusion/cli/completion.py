"""Names that the shell completes, looked up when somebody presses Tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ai_os_diffusion.utils.errors import DiffusionError
from ai_os_diffusion.utils.visible_text import visible_line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["known_names", "model_names"]


def model_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the models that are here."""
    from ai_os_diffusion.models.local_models import list_models

    folder = _models_dir(ctx)
    if folder is None:
        return []
    try:
        names = [model.name for model in list_models(models_dir=folder)]
    except (DiffusionError, OSError):
        return []
    # A shell reads names line by line, and shows them.
    return [name for name in names if name.startswith(incomplete) and visible_line(name) == name]


def known_names(incomplete: str) -> list[str]:
    """Names that can be pulled."""
    from ai_os_diffusion.models.registry import known_models

    return [name for name in sorted(known_models()) if name.startswith(incomplete)]


def _models_dir(ctx: typer.Context) -> Path | None:
    """Where the models are, by what was typed so far and the settings; None where these are wrong."""
    from ai_os_diffusion.config import load_config

    given = ctx.find_root().params
    try:
        return load_config(given.get("config"), overrides={"models_dir": given.get("models_dir")}).models_dir
    except (DiffusionError, OSError):
        return None
