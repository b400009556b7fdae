"""Values of arguments and options that their types alone do not check."""

from __future__ import annotations

import math
from pathlib import Path

import typer

__all__ = ["finite", "name", "path"]


def path(text: str) -> Path:
    """A file or folder. Empty, as a shell leaves an unset variable, it would mean the working folder."""
    return Path(name(text))


def name(text: str) -> str:
    """A name, which is not empty."""
    if not text:
        raise typer.BadParameter("it is empty; expected a name")
    return text


def finite(value: float | None) -> float | None:
    """A number: NaN is in every range, since it is not outside."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value
