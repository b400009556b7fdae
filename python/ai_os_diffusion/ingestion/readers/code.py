"""Source code: Python by its syntax tree, other languages by blank lines and indentation."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

from ai_os_diffusion.ingestion.document import Block
from ai_os_diffusion.ingestion.readers.text import paragraphs

__all__ = ["read_code", "read_python"]

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def read_python(text: str, name: str) -> list[Block]:
    """Split Python source into modules, classes and functions.

    Every line lands in exactly one block; a function or method is one, with its decorators, the
    comment above it and its docstring. A file that does not parse is read as any other code.

    Args:
        text: the source, lines separated by line feeds.
        name: file name, the outermost heading.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return read_code(text, name)
    lines = text.split("\n")
    return list(_members(tree.body, 1, len(lines), (name,), lines))


def read_code(text: str, name: str) -> list[Block]:
    """Split source code where a line that is not indented follows a blank one.

    Args:
        text: the source, lines separated by line feeds.
        name: file name, the only heading.
    """
    blocks: list[Block] = []
    for part in paragraphs(text):
        inside = part.text[0] in " \t})]" and blocks
        if inside:
            last = blocks.pop()
            gap = "\n" * (part.line - last.end_line)
            blocks.append(Block(last.text + gap + part.text, last.line, part.end_line, "code", (name,)))
        else:
            blocks.append(Block(part.text, part.line, part.end_line, "code", (name,)))
    return blocks


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
