"""Statements of a template: output, loops, conditions, assignments, macros."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from jinja2 import TemplateError, Undefined, nodes

from ai_os_diffusion.inference.template.evaluator import Evaluator, Scope
from ai_os_diffusion.inference.template.marked_text import joined
from ai_os_diffusion.inference.template.meter import Meter
from ai_os_diffusion.inference.template.values import Function, Loop, Namespace, items_of, text_of

__all__ = ["Renderer"]


_STEPS_OF_A_CALL = 16


class _Leave(enum.Enum):
    """How a body was left before its end."""

    BREAK = enum.auto()
    CONTINUE = enum.auto()


class Renderer(Evaluator):
    """Writes one rendering.

    Args:
        meter: pays for it.
    """

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._output: list[str] = []
        self._statements: dict[type[nodes.Node], Callable[[Any, Scope], _Leave | None]] = {
            nodes.Output: self._write,
            nodes.For: self._for,
            nodes.If: self._if,
            nodes.Assign: self._assign,
            nodes.AssignBlock: self._assign_block,
            nodes.Macro: self._macro,
            nodes.CallBlock: self._call_block,
            nodes.FilterBlock: self._filter_block,
            nodes.With: self._with,
            nodes.Scope: lambda node, scope: self._body(node.body, Scope(scope)),
            nodes.ScopedEvalContextModifier: lambda node, scope: self._body(node.body, Scope(scope)),
            nodes.Block: lambda node, scope: self._body(node.body, Scope(scope)),
            nodes.Break: lambda *_: _Leave.BREAK,
            nodes.Continue: lambda *_: _Leave.CONTINUE,
        }

    def render(self, template: nodes.Template, variables: Mapping[str, Any]) -> str:
        """The text of a template, which knows what of it is the template's own.

        Raises:
            TemplateLimitError: the meter allows no more.
            TemplateError: a statement fails. Python's own errors pass as they are.
        """
        with self._captured() as parts:
            self._body(template.body, Scope(Scope(None, variables)))
        return joined(parts)

    @contextmanager
    def _captured(self) -> Iterator[list[str]]:
        """Collects what is written meanwhile."""
        outer, self._output = self._output, []
        try:
            yield self._output
        finally:
            self._output = outer

    def _body(self, body: Sequence[nodes.Node], scope: Scope) -> _Leave | None:
        for node in body:
            self.meter.step()
            self.line = node.lineno
            execute = self._statements.get(type(node))
            if execute is None:
                raise TemplateError(f"{type(node).__name__} is not supported in a chat template")
            left = execute(node, scope)
            if left is not None:
                return left
        return None

    def _text_of_body(self, body: Sequence[nodes.Node], scope: Scope) -> str:
        with self._captured() as parts:
            self._body(body, scope)
        self.meter.pay_texts(parts)
        return joined(parts)

    def _write(self, node: nodes.Output, scope: Scope) -> None:
        for part in node.nodes:
            text = text_of(self.value(part, scope), self.meter)
            self.meter.pay_texts([text])
            self._output.append(text)

    def _for(self, node: nodes.For, scope: Scope, depth: int = 0, given: Any = None) -> _Leave | None:
        items = items_of(self.value(node.iter, scope) if given is None else given, self.meter)
        if node.test is not None:
            items = [item for item in items if self._passes(node, item, scope)]
        again = None
        if node.recursive:

            def again(inner: Any) -> str:
                with self._captured() as parts:
                    self._for(node, scope, depth + 1, inner)
                self.meter.pay_texts(parts)
                return joined(parts)

        loop = Loop(items, depth, again)
        for item in loop.run():
            self.meter.step()
            inner = Scope(scope, {"loop": loop})
            self._bind(node.target, item, inner)
            if self._body(node.body, inner) is _Leave.BREAK:
                return None
        return None if items else self._body(node.else_, Scope(scope))

    def _passes(self, node: nodes.For, item: Any, scope: Scope) -> bool:
        inner = Scope(scope)
        self._bind(node.target, item, inner)
        return bool(self.value(node.test, inner)) if node.test is not None else True

    def _if(self, node: nodes.If, scope: Scope) -> _Leave | None:
        for branch in (node, *node.elif_):
            if self.value(branch.test, scope):
                return self._body(branch.body, scope)
        return self._body(node.else_, scope)

    def _assign(self, node: nodes.Assign, scope: Scope) -> None:
        self._bind(node.target, self.value(node.node, scope), scope)

    def _assign_block(self, node: nodes.AssignBlock, scope: Scope) -> None:
        text: Any = self._text_of_body(node.body, Scope(scope))
        if node.filter is not None:
            text = self._piped(node.filter, text, scope)
        self._bind(node.target, text, scope)

    def _filter_block(self, node: nodes.FilterBlock, scope: Scope) -> None:
        text = self._piped(node.filter, self._text_of_body(node.body, Scope(scope)), scope)
        self._output.append(text_of(text, self.meter))

    def _piped(self, node: nodes.Filter, text: Any, scope: Scope) -> Any:
        """A text through the filters behind a block tag, the innermost first."""
        if node.node is not None:
            text = self._piped(node.node, text, scope)  # type: ignore[arg-type]
        args, kwargs = self._arguments(node, scope)
        return self.filtered(node.name, text, *args, **kwargs)

    def _with(self, node: nodes.With, scope: Scope) -> _Leave | None:
        inner = Scope(scope)
        for target, value in zip(node.targets, node.values, strict=True):
            self._bind(target, self.value(value, scope), inner)
        return self._body(node.body, inner)

    def _macro(self, node: nodes.Macro, scope: Scope) -> None:
        scope.values[node.name] = self._function(node, scope, node.name)

    def _call_block(self, node: nodes.CallBlock, scope: Scope) -> None:
        target = self.value(node.call.node, scope)
        args, kwargs = self._arguments(node.call, scope)
        kwargs["caller"] = self._function(node, scope, "caller")
        self._output.append(text_of(self.call(target, *args, **kwargs), self.meter))

    def _function(self, node: nodes.Macro | nodes.CallBlock, scope: Scope, name: str) -> Function:
        """A macro, which sees the variables around its definition."""
        names = [argument.name for argument in node.args]
        used = {found.name for found in node.find_all(nodes.Name)}
        defaults = dict(zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True))

        def call(*args: Any, **kwargs: Any) -> str:
            self.meter.step(_STEPS_OF_A_CALL)
            inner = Scope(scope)
            inner.values |= {
                "varargs": args[len(names) :],
                "caller": kwargs.pop("caller", Undefined(name="caller")),
            }
            if len(args) > len(names) and "varargs" not in used:
                raise TypeError(f"macro {name!r} takes not more than {len(names)} argument(s)")
            for position, parameter in enumerate(names):
                if position < len(args):
                    value = args[position]
                elif parameter in kwargs:
                    value = kwargs.pop(parameter)
                elif parameter in defaults:
                    value = self.value(defaults[parameter], inner)
                else:
                    value = Undefined(f"parameter {parameter!r} was not provided", name=parameter)
                inner.values[parameter] = value
            inner.values["kwargs"] = kwargs
            if kwargs and "kwargs" not in used:
                raise TypeError(f"macro {name!r} takes no keyword argument {next(iter(kwargs))!r}")
            return self._text_of_body(node.body, inner)

        return Function(name, call)

    def _bind(self, target: nodes.Node, value: Any, scope: Scope) -> None:
        if isinstance(target, nodes.Name):
            scope.values[target.name] = value
        elif isinstance(target, nodes.NSRef):
            namespace = scope.find(target.name)
            if not isinstance(namespace, Namespace):
                raise TemplateError("cannot assign attribute on non-namespace object")
            namespace.values[target.attr] = value
        elif isinstance(target, nodes.Tuple):
            items = items_of(value, self.meter)
            if len(items) != len(target.items):
                raise ValueError(f"{len(items)} values cannot be assigned to {len(target.items)} names")
            for name, item in zip(target.items, items, strict=True):
                self._bind(name, item, scope)
        else:
            raise TemplateError(f"cannot assign to {type(target).__name__}")
