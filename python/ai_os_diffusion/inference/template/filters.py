"""Filters: what may stand behind `|`, as Jinja and transformers define them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, Undefined
from jinja2 import filters as library
from markupsafe import escape

from ai_os_diffusion.inference.template import methods
from ai_os_diffusion.inference.template.marked_text import changed, cut, joined, split_lines, stripped
from ai_os_diffusion.inference.template.values import Group, items_of, text_of

if TYPE_CHECKING:
    from ai_os_diffusion.inference.template.evaluator import Evaluator

__all__ = ["FILTERS"]

_MOST_DIGITS = 64
# As U+0390 becomes in capitals.
_MOST_CASES = 3
# The longest that one character becomes, as `%F0%9F%98%80` or `&#34;`.
_MOST_ESCAPED = 12


def _on_text(change: Callable[[str], str]) -> Callable[..., str]:
    """A filter that changes the characters of a text one by one."""

    def apply(run: Evaluator, value: Any) -> str:
        text = text_of(value, run.meter)
        run.meter.pay(_MOST_CASES * len(text))
        return changed(text, change)

    return apply


def _by_library(change: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of the library that makes no more than its text several times; the marks are lost."""

    def apply(run: Evaluator, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = text_of(value, run.meter)
        run.meter.pay(_MOST_ESCAPED * (1 + len(text)))
        for argument in (*args, *kwargs.values()):
            run.meter.pay(abs(argument) if isinstance(argument, int) else len(text_of(argument, run.meter)))
        result = change(str.__str__(text), *args, **kwargs)
        return str(result) if isinstance(result, str) else result

    return apply


def _batch(run: Evaluator, value: Any, linecount: int, fill_with: Any = None) -> Iterator[list[Any]]:
    items = items_of(value, run.meter)
    run.meter.pay_items(2 * len(items) + abs(linecount))
    return iter(list(library.do_batch(items, linecount, fill_with)))


def _slice(run: Evaluator, value: Any, slices: int, fill_with: Any = None) -> Iterator[list[Any]]:
    items = items_of(value, run.meter)
    run.meter.pay_items(2 * len(items) + abs(slices))
    return iter(list(library.sync_do_slice(items, slices, fill_with)))


def _center(run: Evaluator, value: Any, width: int = 80) -> str:
    text = text_of(value, run.meter)
    run.meter.pay(len(text) + abs(width))
    return text.center(width)


def _default(_: Evaluator, value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return default_value if isinstance(value, Undefined) or (boolean and not value) else value


def _dictsort(
    run: Evaluator, value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> list[Any]:
    run.meter.pay_all(value)
    run.meter.pay_items(2 * len(value))
    return library.do_dictsort(value, case_sensitive, by, reverse)  # type: ignore[arg-type]


def _first(run: Evaluator, value: Any) -> Any:
    items = items_of(value, run.meter)
    return items[0] if items else Undefined("No first item, sequence was empty.")


def _last(run: Evaluator, value: Any) -> Any:
    items = items_of(value, run.meter)
    return items[-1] if items else Undefined("No last item, sequence was empty.")


def _float(_: Evaluator, value: Any, default: float = 0.0) -> float:
    if isinstance(value, str) and len(value) > _MOST_DIGITS:
        return default
    return library.do_float(value, default)


def _int(run: Evaluator, value: Any, default: int = 0, base: int = 10) -> int:
    if isinstance(value, str) and len(value) > _MOST_DIGITS:
        return default
    return int(run.meter.checked(library.do_int(value, default, base)))


def _format(run: Evaluator, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TemplateError("can't handle positional and keyword arguments at the same time")
    return methods.format_percent(run.meter, text_of(value, run.meter), kwargs or args)


def _groupby(
    run: Evaluator, value: Any, attribute: Any, default: Any = None, case_sensitive: bool = False
) -> list[Any]:
    groups: dict[Any, list[Any]] = {}
    keys: dict[Any, Any] = {}
    for item in items_of(value, run.meter):
        key = run.path(item, attribute)
        key = default if isinstance(key, Undefined) and default is not None else key
        run.meter.pay_all(key)
        folded = _folded(key, case_sensitive)
        keys.setdefault(folded, key)
        groups.setdefault(folded, []).append(item)
    return [Group(keys[key], groups[key]) for key in sorted(groups)]


def _indent(run: Evaluator, value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    text = text_of(value, run.meter)
    margin = width if isinstance(width, str) else methods.repeat(run.meter, " ", width)
    # A last line that is empty counts too, as in the library.
    lines = split_lines(joined([text, "\n"]))
    run.meter.pay_texts(lines, margin)
    rest = [joined([margin, line]) if line or blank else line for line in lines[1:]]
    written = joined([lines[0], *rest], "\n")
    return joined([margin, written]) if first else written


def _items(run: Evaluator, value: Any) -> Iterator[Any]:
    if isinstance(value, Undefined):
        return iter(())
    if not isinstance(value, dict):
        raise TypeError("Can only get item pairs from a mapping.")
    run.meter.pay_items(2 * len(value))
    return iter(list(value.items()))


def _join(run: Evaluator, value: Any, d: str = "", attribute: Any = None) -> str:
    items = [run.path(item, attribute) for item in items_of(value, run.meter)]
    parts = [text_of(item, run.meter) for item in items]
    separator = text_of(d, run.meter)
    run.meter.pay_texts(parts, separator)
    return joined(parts, separator)


def _length(_: Evaluator, value: Any) -> int:
    return len(value)


def _list(run: Evaluator, value: Any) -> list[Any]:
    return items_of(value, run.meter)


def _map(run: Evaluator, value: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    items = items_of(value, run.meter)
    if not args and "attribute" in kwargs:
        missing = kwargs.get("default")
        found = (run.path(item, kwargs["attribute"]) for item in items)
        return iter(
            [missing if isinstance(item, Undefined) and missing is not None else item for item in found]
        )
    return iter([run.filtered(args[0], item, *args[1:], **kwargs) for item in items])


def _chosen(keep: bool, by_attribute: bool) -> Callable[..., Iterator[Any]]:
    def apply(run: Evaluator, value: Any, *args: Any) -> Iterator[Any]:
        attribute, args = (args[0], args[1:]) if by_attribute else (None, args)
        kept = []
        for item in items_of(value, run.meter):
            run.meter.step()
            subject = run.path(item, attribute)
            if (run.holds(args[0], subject, *args[1:]) if args else bool(subject)) == keep:
                kept.append(item)
        return iter(kept)

    return apply


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def apply(run: Evaluator, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
        items = items_of(value, run.meter)
        run.meter.pay_all(items)
        if not items:
            return Undefined("No aggregated item, sequence was empty.")
        return choose(items, key=lambda item: _folded(run.path(item, attribute), case_sensitive))

    return apply


def _replace(run: Evaluator, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    meter = run.meter
    text, old, new = text_of(value, meter), text_of(old, meter), text_of(new, meter)
    return methods.replace(meter, text, old, new, -1 if count is None else count)


def _reverse(run: Evaluator, value: Any) -> Any:
    items = items_of(value, run.meter)[::-1]
    return joined(items) if isinstance(value, str) else iter(items)


def _round(run: Evaluator, value: Any, precision: int = 0, method: str = "common") -> float:
    run.meter.pay(abs(precision))
    return library.do_round(value, precision, method)  # type: ignore[arg-type]


def _sort(
    run: Evaluator, value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    items = items_of(value, run.meter)
    run.meter.pay_all(items)
    names = attribute.split(",") if isinstance(attribute, str) else [attribute]
    return sorted(
        items,
        key=lambda item: [_folded(run.path(item, name), case_sensitive) for name in names],
        reverse=reverse,
    )


def _sum(run: Evaluator, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    for item in items_of(value, run.meter):
        start = run.arithmetic("+", start, run.path(item, attribute))
    return start


def _tojson(
    run: Evaluator,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes for HTML."""
    run.meter.pay_all(value, _MOST_ESCAPED)
    margin = indent if isinstance(indent, int) else len(indent or "")
    breaks = sum(map(len, separators or ()))
    if margin > 1 or breaks > 2:
        # Each item stands on a line of its own, as deep as it is nested.
        for depth, count in enumerate(_counts_by_depth(run, value)):
            run.meter.pay(count * (depth * margin + breaks))
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _counts_by_depth(run: Evaluator, value: Any) -> list[int]:
    counts, level = [], [value]
    while level:
        run.meter.pay_items(len(level))
        counts.append(2 * len(level))
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
        level = below
    return counts


def _trim(run: Evaluator, value: Any, chars: str | None = None) -> str:
    text = text_of(value, run.meter)
    run.meter.pay_texts([text])
    return stripped(text, chars)


def _truncate(
    run: Evaluator, value: Any, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5
) -> str:
    text = text_of(value, run.meter)
    if len(text) <= length + leeway:
        return text
    kept = cut(text, 0, max(0, length - len(end)))
    if not killwords:
        kept = cut(kept, 0, len(str(kept).rsplit(" ", 1)[0]))
    run.meter.pay_texts([text, end])
    return joined([kept, end])


def _unique(run: Evaluator, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Iterator[Any]:
    items = items_of(value, run.meter)
    run.meter.pay_all(items)
    first: dict[Any, Any] = {}
    for item in items:
        first.setdefault(_folded(run.path(item, attribute), case_sensitive), item)
    return iter(list(first.values()))


def _folded(value: Any, case_sensitive: bool) -> Any:
    return value.lower() if isinstance(value, str) and not case_sensitive else value


def _refused(name: str) -> Callable[..., Any]:
    def apply(*_: Any, **__: Any) -> Any:
        raise TemplateError(f"the filter {name!r} has no place in a chat template")

    return apply


FILTERS: dict[str, Callable[..., Any]] = {
    "abs": lambda _, value: abs(value),
    "attr": lambda run, value, name: run.attribute(value, name),
    "batch": _batch,
    "capitalize": _on_text(str.capitalize),
    "center": _center,
    "count": _length,
    "d": _default,
    "default": _default,
    "dictsort": _dictsort,
    "e": _by_library(escape),
    "escape": _by_library(escape),
    "filesizeformat": lambda _, value, binary=False: library.do_filesizeformat(value, binary),
    "first": _first,
    "float": _float,
    "forceescape": _by_library(library.do_forceescape),
    "format": _format,
    "groupby": _groupby,
    "indent": _indent,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "lower": _on_text(str.lower),
    "map": _map,
    "max": _extreme(max),
    "min": _extreme(min),
    "pprint": _refused("pprint"),
    "random": _refused("random"),
    "reject": _chosen(keep=False, by_attribute=False),
    "rejectattr": _chosen(keep=False, by_attribute=True),
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "safe": lambda run, value: text_of(value, run.meter),
    "select": _chosen(keep=True, by_attribute=False),
    "selectattr": _chosen(keep=True, by_attribute=True),
    "slice": _slice,
    "sort": _sort,
    "string": lambda run, value: text_of(value, run.meter),
    "striptags": _by_library(library.do_striptags),
    "sum": _sum,
    "title": _on_text(library.do_title),
    "tojson": _tojson,
    "trim": _trim,
    "truncate": _truncate,
    "unique": _unique,
    "upper": _on_text(str.upper),
    "urlencode": _by_library(library.do_urlencode),
    "urlize": _refused("urlize"),
    "wordcount": _by_library(library.do_wordcount),
    "wordwrap": _refused("wordwrap"),
    "xmlattr": _refused("xmlattr"),
}
