"""Data on stdout: JSON for programs, tables for people, tab-separated lines for pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from ai_os_diffusion.cli.failures import UsageError
from ai_os_diffusion.cli.terminal.json_text import write_json
from ai_os_diffusion.cli.terminal.streams import INDENT, ask, styled, tell, write_wrapped
from ai_os_diffusion.cli.terminal.wrapping import cells_of, width_of
from ai_os_diffusion.utils.visible_text import VisibleLines, visible_line

__all__ = [
    "ShownAnswer",
    "confirm",
    "note",
    "show_json",
    "show_json_line",
    "show_line",
    "show_passage",
    "show_row",
    "show_table",
    "size_text",
    "where_text",
]

_PASSAGE_INDENT = "    "
# Of text that is broken into a column.
_MIN_COLUMN_CELLS = 12
_CELLS_BETWEEN_COLUMNS = 3


def show_json(value: Any) -> None:
    """Write one JSON document."""
    write_json(sys.stdout, value, indent=2)


def show_json_line(value: Any) -> None:
    """Write one JSON value on one line."""
    write_json(sys.stdout, value)


def show_line(text: str = "", strong: str = "", rest: str = "") -> None:
    """Write one line: `text`, then what stands out on a terminal, then the rest."""
    indent = text[: len(text) - len(text.lstrip(" "))] + INDENT
    for piece, is_strong in ((text, False), (strong, True), (rest, False)):
        write_wrapped(sys.stdout, visible_line(piece), indent, strong=is_strong)
    write_wrapped(sys.stdout, "\n", indent)


def show_row(cells: Iterable[object]) -> None:
    """Write one line of cells: with tabs between them for programs, broken into lines on a terminal."""
    line = "\t".join(map(_cell, cells)) + "\n"
    if sys.stdout.isatty():
        write_wrapped(sys.stdout, line, INDENT)
    else:
        sys.stdout.write(line)


def show_passage(lines: Iterable[Iterable[tuple[str, bool]]]) -> None:
    """Write the lines of a text, deeper than any line of ours stands.

    Args:
        lines: each in pieces, which stand out or do not.
    """
    for line in lines:
        pieces = [(visible_line(piece.expandtabs(4)), is_strong) for piece, is_strong in line]
        first = "".join(piece for piece, _ in pieces)
        indent = _PASSAGE_INDENT + first[: len(first) - len(first.lstrip(" "))]
        if first:
            write_wrapped(sys.stdout, _PASSAGE_INDENT)
        for piece, is_strong in pieces:
            write_wrapped(sys.stdout, piece, indent, strong=is_strong)
        write_wrapped(sys.stdout, "\n", indent)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Write rows: a table on a terminal, else one tab-separated line a row without a heading.

    A terminal too narrow for the table gets a paragraph for each row.

    Args:
        columns: headings.
        rows: cells, one for each column.
        right: headings of columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        for row in rows:
            show_row(row)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    told = [[_cell(value) for value in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in told:
        table.add_row(*map(Text, row))
    console = Console(file=styled(sys.stdout), width=width_of(sys.stdout))
    if _least_cells([columns, *told]) <= console.width:
        console.print(table)
        return
    for row in told:
        show_line()
        for column, value in zip(columns, row, strict=True):
            show_line("", f"{column}:", f" {value}")


def _least_cells(rows: Iterable[Sequence[str]]) -> int:
    """Width of a table whose words stay whole, but for those of the last column, which mostly holds text."""
    columns = zip(*rows, strict=True)
    *others, last = [
        max(cells_of(word) for cell in column for word in ("", *cell.split())) for column in columns
    ]
    return sum(others) + min(last, _MIN_COLUMN_CELLS) + _CELLS_BETWEEN_COLUMNS * (len(others) + 1)


class ShownAnswer:
    """An answer that is seen while it is made. Its further lines are indented: none passes for a citation."""

    def __init__(self) -> None:
        self._lines = VisibleLines(INDENT)

    def write(self, piece: str) -> None:
        """Write the next piece, and let it be seen at once."""
        write_wrapped(sys.stdout, self._lines.feed(piece), INDENT)
        sys.stdout.flush()


def note(text: str, *, quiet: bool = False) -> None:
    """Say something beside the data, on one line of stderr."""
    if not quiet:
        tell(visible_line(text))


def confirm(question: str, *, as_json: bool) -> None:
    """Ask on stderr, and end the program unless the answer is yes.

    Raises:
        UsageError: JSON was asked for, so a program is listening, and no person.
    """
    if as_json:
        raise UsageError(f"{question} --yes confirms")
    answer = ""
    while answer not in ("y", "yes"):
        ask(f"{visible_line(question)} [y/N]: ")
        line = sys.stdin.readline() if sys.stdin is not None else ""
        answer = line.strip().lower()
        if not line or answer in ("", "n", "no"):
            raise typer.Abort


def size_text(size_bytes: float) -> str:
    """A size in the unit that keeps it short, each 1000 of the one before: "512 B", "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 100 else f"{size_bytes:.1f} {unit}"


def where_text(source: str, line: int | None = None) -> str:
    """A citation on one line, "file:line": relative to the working folder where the file is below it."""
    path = Path(source)
    if path.is_absolute():
        try:
            source = str(path.relative_to(Path.cwd()))
        except (ValueError, OSError):
            source = str(path)
    shown = visible_line(source)
    return f"{shown}:{line}" if line else shown


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else visible_line(str(value))
