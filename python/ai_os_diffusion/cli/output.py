"""Data on stdout: JSON for programs, tables for people, tab-separated lines for pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from ai_os_diffusion.cli.failures import UsageError

__all__ = [
    "confirm",
    "note",
    "show_json",
    "show_json_line",
    "show_piece",
    "show_table",
    "size_text",
    "where_text",
]


def show_json(value: Any) -> None:
    """Write one JSON document."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def show_json_line(value: Any) -> None:
    """Write one JSON value on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Write rows: a table on a terminal, else one tab-separated line a row without a heading.

    Args:
        columns: headings.
        rows: cells, one for each column.
        right: headings of columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(_cell(value) for value in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        last = column == columns[-1]
        table.add_column(
            column, justify="right" if column in right else "left", overflow="fold" if last else "ellipsis"
        )
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console().print(table)


def show_piece(text: str) -> None:
    """Write a piece of a text that is still being made, and let it be seen at once."""
    typer.echo(text, nl=False)
    sys.stdout.flush()


def note(text: str, *, quiet: bool = False) -> None:
    """Say something beside the data, on stderr."""
    if not quiet:
        typer.echo(text, err=True)


def confirm(question: str, *, as_json: bool) -> None:
    """Ask on stderr, and end the program unless the answer is yes.

    Raises:
        UsageError: JSON was asked for, so a program is listening, and no person.
    """
    if as_json:
        raise UsageError(f"{question} --yes confirms")
    typer.confirm(question, abort=True, err=True)


def size_text(size_bytes: float) -> str:
    """A size in the unit that keeps it short, each 1000 of the one before: "512 B", "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 100 else f"{size_bytes:.1f} {unit}"


def where_text(source: str, line: int | None = None) -> str:
    """A citation, "file:line": relative to the working folder where the file is below it."""
    path = Path(source)
    if path.is_absolute():
        try:
            source = str(path.relative_to(Path.cwd()))
        except (ValueError, OSError):
            source = str(path)
    return f"{source}:{line}" if line else source


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
