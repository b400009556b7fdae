"""Source code: Python by its syntax tree, other languages by blank lines and indentation."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.text import paragraphs

__all__ = ["MAX_PARSED_CHARS", "CodeReader", "read_python"]

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


# A syntax tree takes a hundred times the memory of its source; nobody writes a longer file by hand.
MAX_PARSED_CHARS = 1_000_000


def read_python(text: str, name: str) -> tuple[list[Block], list[Remark]]:
    """Split Python source into modules, classes and functions.

    Every line lands in exactly one block; a function or method is one, with its decorators, the
    comment above it and its docstring. A file that does not parse, or is longer than a million
    characters, is read as any other code.

    Args:
        text: the source, lines separated by line feeds.
        name: file name, the outermost heading.
    """
    if len(text) > MAX_PARSED_CHARS:
        return list(CodeReader(name).read(text)), []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return list(CodeReader(name).read(text)), []
    lines = text.split("\n")
    return list(_members(tree.body, 1, len(lines), (name,), lines)), []


class CodeReader:
    """Splits source code where a line that is not indented follows a blank one."""

    def __init__(self, name: str) -> None:
        """Begin.

        Args:
            name: file name, the only heading.
        """
        self._name = name

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`."""
        parts: list[Block] = []
        for part in paragraphs(text, first_line):
            if parts and part.text[0] not in " \t})]":
                yield _together(parts, self._name)
                parts = []
            parts.append(part)
        if parts:
            yield _together(parts, self._name)

    def end(self) -> Iterator[Block]:
        """Nothing is left."""
        return iter(())

    def take_remarks(self) -> list[Remark]:
        """None: all of the code is text."""
        return []


def _together(parts: Sequence[Block], name: str) -> Block:
    """Paragraphs as one block, with the blank lines between them."""
    written = [parts[0].text]
    for above, below in pairwise(parts):
        written += ["\n" * (below.line - above.end_line), below.text]
    return Block("".join(written), parts[0].line, parts[-1].end_line, "code", (name,))


def _members(
    body: Sequence[ast.stmt], first: int, last: int, path: tuple[str, ...], lines: list[str]
) -> Iterator[Block]:
    """Blocks of lines [first, last], which hold the statements of `body`."""
    cursor = first
    for node in body:
        if not isinstance(node, (*_Function, ast.ClassDef)):
            continue
        start, end = _start(node, cursor, lines), node.end_lineno or node.lineno
        if start < cursor:
            continue
        yield from _block(lines, cursor, start - 1, path)
        inner = (*path, node.name)
        if isinstance(node, ast.ClassDef):
            yield from _members(node.body, start, end, inner, lines)
        else:
            yield from _block(lines, start, end, inner)
        cursor = end + 1
    yield from _block(lines, cursor, last, path)


def _start(node: ast.stmt, lowest: int, lines: list[str]) -> int:
    """First line of a definition: its decorators and the comment right above belong to it."""
    decorators = getattr(node, "decorator_list", [])
    start = min((decorator.lineno for decorator in decorators), default=node.lineno)
    while start > lowest and lines[start - 2].lstrip().startswith("#"):
        start -= 1
    return start


def _block(lines: list[str], first: int, last: int, path: tuple[str, ...]) -> Iterator[Block]:
    while first <= last and not lines[first - 1].strip():
        first += 1
    while last >= first and not lines[last - 1].strip():
        last -= 1
    if first <= last:
        text = "\n".join(line.rstrip() for line in lines[first - 1 : last])
        symbol = ".".join(path[1:])
        yield Block(text, first, last, "code", path, {"symbol": symbol} if symbol else {})
