"""Methods of text, lists and dictionaries, as Python has them."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

from ai_os_diffusion.inference.template import marked_text
from ai_os_diffusion.inference.template.marked_text import (
    changed,
    cut,
    is_trusted,
    joined,
    stripped,
    trust,
    trusted,
)
from ai_os_diffusion.inference.template.meter import ITEM, Meter, weight
from ai_os_diffusion.inference.template.values import Function, items_of, text_of

__all__ = ["format_percent", "method_of", "repeat", "replace"]

# Tests and searches, which make no text.
_LOOKS = frozenset(
    "count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric "
    "isprintable isspace istitle isupper rfind rindex startswith".split()
)
_CHANGES = frozenset(("capitalize", "casefold", "lower", "swapcase", "title", "upper"))
# As U+0390 becomes in capitals.
_MOST_CASES = 3
_LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_PADS = frozenset(("center", "expandtabs", "ljust", "rjust", "zfill"))
_OF_LISTS = frozenset(("copy", "count", "index"))
_OF_DICTIONARIES = frozenset(("copy", "get", "items", "keys", "values"))

_CONVERSION = re.compile(r"%(?:\((\w+)\))?([#0\- +]*\d*(?:\.\d+)?)([diouxXeEfFgGcrs%])")


def method_of(value: Any, name: str, meter: Meter) -> Function | None:
    """A method, if values of this type have it and it changes nothing."""
    call: Callable[..., Any] | None = None
    if isinstance(value, str):
        call = _method_of_text(value, name, meter)
    elif isinstance(value, list | tuple) and name in _OF_LISTS:
        call = _looking(value, name, meter)
    elif isinstance(value, dict) and name in _OF_DICTIONARIES:
        call = getattr(value, name) if name != "copy" else _looking(value, name, meter)
    return None if call is None else Function(name, call)


def _looking(value: Any, name: str, meter: Meter) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        meter.pay_all(value)
        return getattr(value, name)(*args)

    return call


def _method_of_text(text: str, name: str, meter: Meter) -> Callable[..., Any] | None:
    own = _OWN.get(name)
    plain = str.__str__(text)

    def call(*args: Any, **kwargs: Any) -> Any:
        meter.pay(_MOST_CASES * (1 + len(plain)))
        if own is not None:
            return own(meter, text, *args, **kwargs)
        if name in _CHANGES:
            return changed(text, lambda letters: getattr(letters, name)())
        if name in _PADS:
            _pay_padding(meter, plain, name, args, kwargs)
        return getattr(plain, name)(*args, **kwargs)

    return call if own or name in _LOOKS | _CHANGES | _PADS else None


def _pay_padding(meter: Meter, text: str, name: str, args: Any, kwargs: Any) -> None:
    widths = [abs(value) for value in (*args, *kwargs.values()) if isinstance(value, int)]
    width = max(widths, default=8)
    meter.pay(width * (1 + text.count("\t")) if name == "expandtabs" else width)


def _strip(_: Meter, text: str, characters: str | None = None) -> str:
    return stripped(text, characters)


def _lstrip(_: Meter, text: str, characters: str | None = None) -> str:
    return stripped(text, characters, right=False)


def _rstrip(_: Meter, text: str, characters: str | None = None) -> str:
    return stripped(text, characters, left=False)


def _split(meter: Meter, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    _pay_parts(meter, text, sep, maxsplit)
    return _pieces(text, str.__str__(text).split(sep, maxsplit), sep)


def _rsplit(meter: Meter, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    _pay_parts(meter, text, sep, maxsplit)
    return _pieces(text, str.__str__(text).rsplit(sep, maxsplit), sep)


def _pay_parts(meter: Meter, text: str, sep: str | None, maxsplit: int) -> None:
    most = 1 + (str.__str__(text).count(sep) if sep else len(text) // 2)
    meter.pay_texts([text])
    meter.pay_items(min(most, maxsplit + 1) if maxsplit >= 0 else most)


def _pieces(text: str, parts: list[str], sep: str | None) -> list[str]:
    return marked_text.split(text, parts, None if sep is None else len(sep))


def _partition(_: Meter, text: str, sep: str) -> tuple[str, ...]:
    return tuple(marked_text.split(text, str.__str__(text).partition(sep), 0))


def _rpartition(_: Meter, text: str, sep: str) -> tuple[str, ...]:
    return tuple(marked_text.split(text, str.__str__(text).rpartition(sep), 0))


def _splitlines(meter: Meter, text: str, keepends: bool = False) -> list[str]:
    meter.pay_texts([text])
    meter.pay_items(1 + sum(map(str.__str__(text).count, _LINE_BREAKS)))
    return marked_text.split_lines(text, keepends)


def _removeprefix(_: Meter, text: str, prefix: str) -> str:
    return cut(text, len(prefix), len(text)) if text.startswith(prefix) else text


def _removesuffix(_: Meter, text: str, suffix: str) -> str:
    return cut(text, 0, len(text) - len(suffix)) if suffix and text.endswith(suffix) else text


def replace(meter: Meter, text: str, old: str, new: str, count: int = -1) -> str:
    """`str.replace`."""
    found = str.__str__(text).count(old)
    meter.pay_texts([text])
    # Beside what is written there are the pieces between.
    meter.pay(found * (weight(new) + 2 * ITEM))
    return marked_text.replaced(text, old, new, count) if old else text.replace(old, new, count)


def _join(meter: Meter, text: str, items: Any) -> str:
    parts = items_of(items, meter)
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(f"join: expected text, got {type(part).__name__}")
    meter.pay_texts(parts, text)
    return joined(parts, text)


def _format(meter: Meter, pattern: str, *args: Any, **kwargs: Any) -> str:
    """`str.format` with names, numbers and widths; no attribute, item or nested field is followed."""
    pieces, automatic = [], 0
    for literal, field, spec, conversion in string.Formatter().parse(str.__str__(pattern)):
        # Where a literal stands is not told, so a pattern counts as the template's only as a whole.
        pieces.append(trust(literal) if is_trusted(pattern) else literal)
        if field is None:
            continue
        if not re.fullmatch(r"\w*", field) or "{" in (spec or ""):
            raise ValueError(f"format: the field {{{field}}} is more than a name or a number")
        name: Any = field or str(automatic)
        automatic += not field
        value = args[int(name)] if name.isdecimal() else kwargs[name]
        pieces.append(_formatted(meter, value, spec or "", conversion))
    meter.pay_texts(pieces)
    return joined(pieces)


def _formatted(meter: Meter, value: Any, spec: str, conversion: str | None) -> str:
    if conversion in ("r", "a"):
        value = repr(text_of(value, meter)) if isinstance(value, str) else text_of(value, meter)
    if not spec:
        return text_of(value, meter)
    _pay_widths(meter, spec)
    plain = str.__str__(value) if isinstance(value, str) else value
    if not isinstance(plain, str | int | float):
        raise TypeError(f"format: a width is for text and numbers, got {type(value).__name__}")
    return format(plain, spec)


def format_percent(meter: Meter, pattern: str, values: Any) -> str:
    """`pattern % values`."""
    meter.pay(len(pattern))
    named = isinstance(values, dict)
    rest = iter(values if isinstance(values, tuple) else (values,))
    plain, pieces, at = str.__str__(pattern), [], 0
    while (start := plain.find("%", at)) >= 0:
        match = _CONVERSION.match(plain, start)
        if match is None:
            raise ValueError(f"format: {plain[start : start + 8]!r} is no conversion that is known here")
        pieces.append(cut(pattern, at, start))
        at = match.end()
        name, flags, kind = match.groups()
        if kind == "%":
            pieces.append(cut(pattern, at - 1, at))
            continue
        if name is not None and not named:
            raise TypeError("format requires a mapping")
        try:
            value = values[name] if name is not None else next(rest)
        except StopIteration:
            raise TypeError("not enough arguments for format string") from None
        if kind == "s" and not flags:
            pieces.append(text_of(value, meter))
            continue
        _pay_widths(meter, flags)
        if kind in "sr":
            value = text_of(value, meter) if kind == "s" or not isinstance(value, str) else repr(value)
            kind = "s"
        pieces.append(f"%{flags}{kind}" % (value,))
    if not named and next(rest, None) is not None:
        raise TypeError("not all arguments converted during string formatting")
    pieces.append(cut(pattern, at, len(pattern)))
    meter.pay_texts(pieces)
    return joined(pieces)


def _pay_widths(meter: Meter, spec: str) -> None:
    for digits in re.findall(r"\d+", spec):
        # A number of many digits is too wide whatever it is.
        meter.pay(int(digits[:20]))


def repeat(meter: Meter, value: Any, times: int) -> Any:
    """`value * times` for text and lists."""
    times = max(times, 0)
    if not isinstance(value, str):
        meter.pay_items(max(1, len(value)) * times)
        return value * times
    meter.pay(weight(value) * times)
    if is_trusted(value) or not trusted(value):
        plain = str.__str__(value) * times
        return trust(plain) if trusted(value) else plain
    return joined([value] * times)


_OWN: dict[str, Callable[..., Any]] = {
    "format": _format,
    "join": _join,
    "lstrip": _lstrip,
    "partition": _partition,
    "removeprefix": _removeprefix,
    "removesuffix": _removesuffix,
    "replace": replace,
    "rpartition": _rpartition,
    "rsplit": _rsplit,
    "rstrip": _rstrip,
    "split": _split,
    "splitlines": _splitlines,
    "strip": _strip,
}
