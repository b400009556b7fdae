"""Tests: what may stand behind `is`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Undefined

from ai_os_diffusion.inference.template.values import Function

__all__ = ["CONDITIONS"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


CONDITIONS: dict[str, Callable[..., Any]] = {
    "boolean": lambda value: value is True or value is False,
    "callable": lambda value: isinstance(value, Function),
    "defined": lambda value: not isinstance(value, Undefined),
    "divisibleby": lambda value, number: value % number == 0,
    "escaped": lambda _: False,
    "even": lambda value: value % 2 == 0,
    "false": lambda value: value is False,
    "float": lambda value: isinstance(value, float),
    "in": lambda value, container: value in container,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "iterable": lambda value: isinstance(value, Iterable),
    "lower": lambda value: str(value).islower(),
    "mapping": lambda value: isinstance(value, dict),
    "none": lambda value: value is None,
    "number": _is_number,
    "odd": lambda value: value % 2 == 1,
    "sameas": lambda value, other: value is other or (isinstance(value, str) and value == other),
    "sequence": lambda value: isinstance(value, str | list | tuple | dict | range),
    "string": lambda value: isinstance(value, str),
    "true": lambda value: value is True,
    "undefined": lambda value: isinstance(value, Undefined),
    "upper": lambda value: str(value).isupper(),
}
for _names, _compare in (
    (("==", "eq", "equalto"), operator.eq),
    (("!=", "ne"), operator.ne),
    ((">", "gt", "greaterthan"), operator.gt),
    ((">=", "ge"), operator.ge),
    (("<", "lt", "lessthan"), operator.lt),
    (("<=", "le"), operator.le),
):
    CONDITIONS |= dict.fromkeys(_names, _compare)
