"""How a text is built, whatever it says."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

__all__ = ["structure_of"]

_MARKS = re.compile(r"\s*(?:(?P<mark>(?:[-*+•]|#{1,6})(?=\s)|[>|]|```)|\d{1,3}[.)](?=\s))")
"""How a line of a list, a quotation, a table, a heading or a block of code begins."""

_DEEPEST = 32


def structure_of(text: str) -> str:
    r"""The structure of a text: the types of a JSON value by its keys, else the kinds of its lines in order.

    Example:
        >>> structure_of('{"name": "Ada", "born": 1815}')
        '{born: number, name: string}'
        >>> structure_of("Three fruits:\n- apples\n- pears\n- plums")
        'text, -'
    """
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            return _type_of(json.loads(stripped))
        except (ValueError, RecursionError):
            pass  # It only begins like one.
    kinds = (_kind_of(line) for line in stripped.splitlines() if line.strip())
    return ", ".join(kind for kind, _ in itertools.groupby(kinds))


def _kind_of(line: str) -> str:
    found = _MARKS.match(line)
    if found is None:
        return "text"
    return found["mark"] or "1."


def _type_of(value: Any, depth: int = 0) -> str:
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_type_of(value[key], depth + 1)}' for key in sorted(value))}}}"
    if isinstance(value, list):
        return f"[{' | '.join(sorted({_type_of(one, depth + 1) for one in value}))}]"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "string"
