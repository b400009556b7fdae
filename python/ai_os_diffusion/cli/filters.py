"""`--filter KEY=VALUE` to a metadata filter."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from ai_os_diffusion.cli.failures import UsageError
from ai_os_diffusion.cli.terminal.standard_input import to_text

__all__ = ["condition_of"]


def condition_of(filters: Sequence[str] | None, source: str | None) -> dict[str, Any] | None:
    """The filter that `--filter` and `--source` make together; None where neither is given.

    Raises:
        UsageError: a condition of `--filter` cannot be understood.
    """
    conditions = [*_conditions(filters), *([] if source is None else [_of_source(source)])]
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return {"$and": conditions}


def _conditions(given: Sequence[str] | None) -> list[dict[str, Any]]:
    """Read a repeatable option; every condition has to hold.

    Args:
        given: "KEY=VALUE", where numbers, true, false and null mean themselves and a value in quotes
            ('"7"') stays a text; or a JSON object in the store's operators, such as
            '{"line": {"$lt": 10}}'.

    Raises:
        UsageError: a condition is neither.
    """
    return [_condition(to_text(item)) for item in given or ()]


def _of_source(path: str) -> dict[str, Any]:
    """Memories that stand in a document or below a folder.

    Args:
        path: a path as the user sees it, or the name of a document that is no file.
    """
    from pathlib import Path

    resolved = Path(path).resolve()
    try:
        is_folder = resolved.is_dir()
    except OSError:
        # Too long for a name, or not to be looked at: it may be a document's all the same.
        is_folder = False
    # No source is called so, but the filter has to be JSON.
    names = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in (path, resolved)]
    if is_folder:
        below = {"$prefix": f"{names[1]}/"}
        return {"$or": [{"source": below}, {"sources": below}]}
    return {"$or": [{"source": {"$in": names}}, {"sources": {"$in": names}}]}


def _condition(item: str) -> dict[str, Any]:
    if item.lstrip().startswith("{"):
        try:
            condition = _json(item)
        except ValueError as error:
            raise UsageError(f"--filter {item!r}: not JSON: {error}") from None
        return dict(condition)
    key, equals, value = item.partition("=")
    if not key or not equals:
        raise UsageError(f"--filter {item!r}: expected KEY=VALUE, for example kind=markdown")
    return {key: _value(value)}


def _value(text: str) -> Any:
    try:
        value = _json(text)
    except ValueError:
        return text
    return text if isinstance(value, (list, dict)) else value


def _json(text: str) -> Any:
    """Read a JSON value.

    Raises:
        ValueError: it is none, or nested too deeply for anybody to have meant it.
    """

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError(f"{digits} is no finite number")
        return number

    try:
        return json.loads(text, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
