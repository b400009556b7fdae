"""Expressions of a template: variables, operators, calls, filters and tests."""

from __future__ import annotations

import operator
from collections.abc import Callable, ItemsView, Mapping, ValuesView
from typing import Any

from jinja2 import TemplateError, Undefined, nodes

from ai_os_diffusion.inference.template import methods
from ai_os_diffusion.inference.template.conditions import CONDITIONS
from ai_os_diffusion.inference.template.filters import FILTERS
from ai_os_diffusion.inference.template.marked_text import cut, joined, trust
from ai_os_diffusion.inference.template.meter import Meter, TemplateLimitError
from ai_os_diffusion.inference.template.values import Function, Group, Loop, Namespace, items_of, text_of

__all__ = ["Evaluator", "Scope"]

_MOST_EXPONENT = 64

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


class Scope:
    """Variables of a block, in front of those around it."""

    def __init__(self, around: Scope | None = None, values: Mapping[str, Any] | None = None) -> None:
        self._around = around
        self.values: dict[str, Any] = dict(values or {})

    def find(self, name: str) -> Any:
        """The value of a variable; `Undefined` when there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope._around
        return Undefined(name=name)


class Evaluator:
    """Evaluates the expressions of one rendering.

    Args:
        meter: pays for them.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.line = 0
        self._expressions: dict[type[nodes.Node], Callable[[Any, Scope], Any]] = {
            nodes.Name: lambda node, scope: scope.find(node.name),
            nodes.NSRef: lambda node, scope: self.attribute(scope.find(node.name), node.attr),
            nodes.Const: lambda node, _: _template_own(node.value),
            nodes.TemplateData: lambda node, _: trust(node.data),
            nodes.Tuple: lambda node, scope: tuple(self._all(node.items, scope)),
            nodes.List: lambda node, scope: self._all(node.items, scope),
            nodes.Dict: self._dictionary,
            nodes.CondExpr: self._conditional,
            nodes.And: lambda node, scope: self.value(node.left, scope) and self.value(node.right, scope),
            nodes.Or: lambda node, scope: self.value(node.left, scope) or self.value(node.right, scope),
            nodes.Not: lambda node, scope: not self.value(node.node, scope),
            nodes.Neg: lambda node, scope: -self.value(node.node, scope),
            nodes.Pos: lambda node, scope: +self.value(node.node, scope),
            nodes.Compare: self._comparison,
            nodes.Concat: self._concatenation,
            nodes.Getattr: lambda node, scope: self.attribute(self.value(node.node, scope), node.attr),
            nodes.Getitem: self._subscript,
            nodes.Call: self._call,
            nodes.Filter: self._filter,
            nodes.Test: self._test,
        }

    def value(self, node: nodes.Node, scope: Scope) -> Any:
        """The value of an expression.

        Raises:
            TemplateLimitError: it would cost more than the meter allows.
            TemplateError: it cannot be evaluated. Python's own errors pass as they are.
        """
        self.meter.step()
        self.line = node.lineno
        evaluate = self._expressions.get(type(node))
        if evaluate is not None:
            return evaluate(node, scope)
        if isinstance(node, nodes.BinExpr):
            left, right = self.value(node.left, scope), self.value(node.right, scope)
            return self.arithmetic(node.operator, left, right)
        raise TemplateError(f"{type(node).__name__} is not supported in a chat template")

    def attribute(self, owner: Any, name: str) -> Any:
        """`owner.name`: a method of its type, or an item."""
        if isinstance(owner, Loop):
            return owner.attribute(name)
        if isinstance(owner, Namespace):
            return owner.values[name] if name in owner.values else Undefined(obj=owner, name=name)
        if isinstance(owner, Group) and name in owner._fields:
            return getattr(owner, name)
        method = methods.method_of(owner, name, self.meter)
        return self._item_or_undefined(owner, name) if method is None else method

    def item(self, owner: Any, key: Any) -> Any:
        """`owner[key]`: an item, or a method of its type."""
        if isinstance(key, slice):
            return self._slice(owner, key)
        found = self._item_or_undefined(owner, key)
        if isinstance(found, Undefined) and isinstance(key, str) and not isinstance(owner, Undefined):
            return self.attribute(owner, key)
        return found

    def arithmetic(self, symbol: str | None, left: Any, right: Any) -> Any:
        """A binary operator, when its result is not too large."""
        meter = self.meter
        if isinstance(left, int | float) and isinstance(right, int | float):
            if symbol == "**" and abs(left) > 1 and right > _MOST_EXPONENT:
                raise TemplateLimitError("the power is too large")
            return meter.checked(_ARITHMETIC[str(symbol)](left, right))
        if symbol == "%" and isinstance(left, str):
            return methods.format_percent(meter, left, right)
        if symbol == "+" and isinstance(left, str) and isinstance(right, str):
            meter.pay_texts([left, right])
            return joined([left, right])
        if symbol == "+" and isinstance(left, list | tuple) and isinstance(right, list | tuple):
            meter.pay_items(len(left) + len(right))
        if symbol == "*":
            if isinstance(left, str | list | tuple) and isinstance(right, int):
                return methods.repeat(meter, left, right)
            if isinstance(right, str | list | tuple) and isinstance(left, int):
                return methods.repeat(meter, right, left)
        return _ARITHMETIC[str(symbol)](left, right)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function, a macro or a recursive loop.

        Raises:
            TemplateError: the target is none of them.
        """
        if isinstance(target, Function):
            return target.call(*args, **kwargs)
        if isinstance(target, Loop):
            if target.again is None:
                raise TemplateError("the loop is called but not marked recursive")
            return target.again(*args)
        if isinstance(target, Undefined):
            target._fail_with_undefined_error()
        raise TypeError(f"{type(target).__name__!r} object is not callable")

    def filtered(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """`value | name(...)`.

        Raises:
            TemplateError: there is no such filter.
        """
        if name not in FILTERS:
            raise TemplateError(f"no filter named {name!r} in a chat template")
        if not isinstance(value, str):
            self.meter.step()
        return FILTERS[name](self, value, *args, **kwargs)

    def holds(self, name: str, value: Any, *args: Any) -> bool:
        """`value is name(...)`.

        Raises:
            TemplateError: there is no such test.
        """
        if name in ("filter", "test"):
            return value in (FILTERS if name == "filter" else CONDITIONS)
        if name not in CONDITIONS:
            raise TemplateError(f"no test named {name!r} in a chat template")
        for other in args:
            self._pay_comparison(value, other)
        return bool(CONDITIONS[name](value, *args))

    def path(self, value: Any, attribute: str | int | None) -> Any:
        """The value of `attribute`, where dots lead on, as filters take it."""
        parts = [attribute] if isinstance(attribute, int) else str(attribute).split(".")
        for part in [] if attribute is None else parts:
            value = self.item(value, int(part) if str(part).isdecimal() else part)
        return value

    def _all(self, items: list[nodes.Expr], scope: Scope) -> list[Any]:
        self.meter.pay_items(len(items))
        return [self.value(item, scope) for item in items]

    def _dictionary(self, node: nodes.Dict, scope: Scope) -> dict[Any, Any]:
        self.meter.pay_items(2 * len(node.items))
        return {self.value(pair.key, scope): self.value(pair.value, scope) for pair in node.items}

    def _conditional(self, node: nodes.CondExpr, scope: Scope) -> Any:
        if self.value(node.test, scope):
            return self.value(node.expr1, scope)
        if node.expr2 is not None:
            return self.value(node.expr2, scope)
        return Undefined("the inline if-expression evaluated to false and no else section was defined")

    def _comparison(self, node: nodes.Compare, scope: Scope) -> bool:
        left = self.value(node.expr, scope)
        for operand in node.ops:
            right = self.value(operand.expr, scope)
            self._pay_comparison(left, right)
            if operand.op in ("in", "notin"):
                result = (left in right) == (operand.op == "in")
            else:
                result = _COMPARISONS[operand.op](left, right)
            if not result:
                return False
            left = right
        return True

    def _pay_comparison(self, left: Any, right: Any) -> None:
        """Pay for `==`, `<` or `in`."""
        if isinstance(left, list | tuple | dict) or isinstance(right, ValuesView | ItemsView):
            self.meter.pay_all([left, right])
        elif isinstance(right, list | tuple):
            self.meter.pay(len(right) * (1 + len(left) if isinstance(left, str) else 1))
        elif isinstance(right, str):
            self.meter.pay(1 + len(right))

    def _concatenation(self, node: nodes.Concat, scope: Scope) -> str:
        parts = [text_of(self.value(part, scope), self.meter) for part in node.nodes]
        self.meter.pay_texts(parts)
        return joined(parts)

    def _subscript(self, node: nodes.Getitem, scope: Scope) -> Any:
        owner = self.value(node.node, scope)
        if isinstance(node.arg, nodes.Slice):
            bounds = (node.arg.start, node.arg.stop, node.arg.step)
            return self._slice(
                owner, slice(*(None if bound is None else self.value(bound, scope) for bound in bounds))
            )
        return self.item(owner, self.value(node.arg, scope))

    def _slice(self, owner: Any, bounds: slice) -> Any:
        if isinstance(owner, list | tuple | range):
            self.meter.pay_items(len(owner))
            return owner[bounds]
        if not isinstance(owner, str):
            return Undefined(obj=owner, name=str(bounds))
        start, stop, step = bounds.indices(len(owner))
        if step == 1:
            self.meter.pay_texts([owner])
            return cut(owner, start, max(start, stop))
        self.meter.pay_items(len(owner))
        return joined([cut(owner, at, at + 1) for at in range(start, stop, step)])

    def _item_or_undefined(self, owner: Any, key: Any) -> Any:
        if isinstance(owner, Undefined):
            owner._fail_with_undefined_error()
        try:
            if isinstance(owner, str) and isinstance(key, int):
                at = range(len(owner))[key]
                return cut(owner, at, at + 1)
            if isinstance(owner, dict | list | tuple | range):
                return owner[key]
        except (LookupError, TypeError):
            pass
        return Undefined(obj=owner, name=key)

    def _arguments(self, node: nodes.Call | nodes.Filter | nodes.Test, scope: Scope) -> tuple[Any, Any]:
        args = [self.value(arg, scope) for arg in node.args]
        kwargs = {pair.key: self.value(pair.value, scope) for pair in node.kwargs}
        if node.dyn_args is not None:
            args += items_of(self.value(node.dyn_args, scope), self.meter)
        if node.dyn_kwargs is not None:
            kwargs |= self.value(node.dyn_kwargs, scope)
        return args, kwargs

    def _call(self, node: nodes.Call, scope: Scope) -> Any:
        target = self.value(node.node, scope)
        args, kwargs = self._arguments(node, scope)
        self.line = node.lineno
        return self.call(target, *args, **kwargs)

    def _filter(self, node: nodes.Filter, scope: Scope) -> Any:
        value = self.value(node.node, scope) if node.node is not None else ""
        args, kwargs = self._arguments(node, scope)
        self.line = node.lineno
        return self.filtered(node.name, value, *args, **kwargs)

    def _test(self, node: nodes.Test, scope: Scope) -> bool:
        value = self.value(node.node, scope)
        args, _ = self._arguments(node, scope)
        return self.holds(node.name, value, *args)


def _template_own(value: Any) -> Any:
    """A constant, its texts marked as the template's."""
    if isinstance(value, str):
        return trust(value)
    return tuple(map(_template_own, value)) if isinstance(value, tuple) else value
