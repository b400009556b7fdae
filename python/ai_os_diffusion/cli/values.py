"""Values of arguments and options that their types alone do not check."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from ai_os_diffusion.cli.failures import NotFoundError

__all__ = ["finite", "name", "output", "path"]


def path(text: str) -> Path:
    """A file or folder. Empty, as a shell leaves an unset variable, it would mean the working folder."""
    return Path(name(text))


def output(text: str) -> Path:
    """A file to write. Its folder has to be there: nobody works for a result that has no place.

    Raises:
        NotFoundError: it is not.
    """
    file = path(text)
    if not file.parent.is_dir():
        raise NotFoundError(f"{file.parent}: no such folder to write {file.name} in; make it first")
    return file


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
