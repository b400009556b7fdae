"""A Jinja sandbox that also bounds work and memory.

Jinja's own sandbox keeps a template from attributes, files and modules, but lets it loop and grow text
without end. Here every loop pass and macro call is counted, a rendering has a deadline, and every way the
language has to make long text or large numbers is measured before it is followed.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["BoundedEnvironment", "budget"]

MAX_LENGTH = 1 << 26
"""Characters of a text, items of a list."""

MAX_NUMBER = 1 << 64

MAX_WIDTH = 4096
"""Padding and indentation."""

MAX_STEPS = 1 << 18
"""Loop passes and macro calls of one rendering."""

MAX_SECONDS = 10.0

# Filters and methods of text that take a width.
_WIDTHS = frozenset({"center", "indent", "ljust", "rjust", "zfill", "expandtabs", "batch", "slice"})

_remaining: ContextVar[tuple[int, float]] = ContextVar("chat_template_budget")


@contextmanager
def budget() -> Iterator[None]:
    """Give one rendering its steps and its time."""
    token = _remaining.set((MAX_STEPS, time.monotonic() + MAX_SECONDS))
    try:
        yield
    finally:
        _remaining.reset(token)


class _Generator(CodeGenerator):
    """Joins the operands of `~` through the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - named by Jinja
        self.write("environment.concat((")
        for operand in node.nodes:
            self.write("str(")
            self.visit(operand, frame)
            self.write("), ")
        self.write("))")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox; render inside `budget()`."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "/", "-"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in (*(_WIDTHS & self.filters.keys()), "format", "replace", "join"):
            self.filters[name] = _bounded(name, self.filters[name])
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        bodies: list[Any] = list(template.find_all((nodes.For, nodes.Macro, nodes.CallBlock)))
        for node in bodies:
            step = nodes.Call(nodes.EnvironmentAttribute("count_step"), [], [], None, None)
            node.body.insert(0, nodes.ExprStmt(step).set_lineno(node.lineno))
        return template

    @staticmethod
    def count_step() -> None:
        """Called at the start of every loop pass and macro call."""
        steps, deadline = _remaining.get()
        _remaining.set((steps - 1, deadline))
        if steps <= 0:
            raise SecurityError(f"stopped after {MAX_STEPS} loop passes and macro calls")
        if time.monotonic() > deadline:
            raise SecurityError(f"stopped after {MAX_SECONDS:g} s")

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Joins the text of the output, of blocks, of macros and of `~`."""
        kept, total = [], 0
        for part in parts:
            total += len(part)
            _check_length(total)
            kept.append(part)
        return "".join(kept)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuses operands whose result would be too large."""
        if isinstance(left, int | float) and isinstance(right, int | float):
            if operator == "**" and (abs(left) > 1 << 16 or abs(right) > 64):
                raise SecurityError("the power is too large")
            if max(abs(left), abs(right)) > MAX_NUMBER:
                raise SecurityError("the number is too large")
        elif operator == "*":
            _check_length(_size(left) * _size(right))
        elif operator == "+":
            _check_length(_size(left) + _size(right))
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The sandbox's own `str.format`, with its pattern measured."""
        wrapped = super().wrap_str_format(value)
        return None if wrapped is None else _measured_format(str(value.__self__), wrapped)

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Measures calls of the methods of text, which may pad and repeat."""
        receiver = getattr(function, "__self__", None)
        if isinstance(receiver, str):
            _check_call(function.__name__, receiver, [*args, *kwargs.values()])
        return super().call(context, function, *args, **kwargs)


def _measured_format(pattern: str, format_: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(format_)
    def measured(*args: Any, **kwargs: Any) -> str:
        _check_call("format", pattern, [*args, *kwargs.values()])
        return format_(*args, **kwargs)

    return measured


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments are measured; decorations that Jinja reads are kept."""

    @functools.wraps(filter_)
    def measured(*args: Any, **kwargs: Any) -> Any:
        # Jinja may pass itself first.
        own = [arg for arg in args if not isinstance(arg, Environment | EvalContext)]
        _check_call(name, own[0], [*own[1:], *kwargs.values()])
        return filter_(*args, **kwargs)

    return measured


def _check_call(name: str, subject: Any, arguments: list[Any]) -> None:
    """Measures a filter or a method of text, named alike, before it makes a text."""
    if name in _WIDTHS and any(isinstance(value, int) and abs(value) > MAX_WIDTH for value in arguments):
        raise SecurityError(f"a width is above {MAX_WIDTH}")
    if name == "format":
        _check_widths(str(subject))
    elif name == "replace":
        _check_length(len(str(subject)) * max(map(_size, arguments), default=1))
    elif name == "join":
        separator, items = (subject, arguments[0]) if isinstance(subject, str) else ("", subject)
        if isinstance(items, list | tuple):
            _check_length(sum(_size(item) + len(separator) for item in items if isinstance(item, str)))


def _check_widths(pattern: str) -> None:
    """Refuses a format with a width of five digits, or one taken from its arguments."""
    if re.search(r"[%{][^%{}]{0,64}?\d{5}|%[^%]{0,8}\*|\{[^{}]{0,64}\{[^{]", pattern):
        raise SecurityError(f"a width is above {MAX_WIDTH}")


def _check_length(length: int) -> None:
    if length > MAX_LENGTH:
        raise SecurityError(f"a text is longer than {MAX_LENGTH} characters")


def _size(value: Any) -> int:
    if isinstance(value, str | list | tuple):
        return max(1, len(value))
    return max(1, abs(int(value))) if isinstance(value, int) else 1
